/* What keeper.c and its modules agree on: the input of keeper.give is an int, its output a pointer into the module. */
#ifndef GIVE_H
#define GIVE_H

#define GIVE_NOTHING 0
#define GIVE_VTABLE 1
#define GIVE_LITERAL 2
#define GIVE_CALLBACK 3
#define GIVE_CRASH 4
#define GIVE_BLOCK 5

#endif
