/* A module that gives pointers into itself away: keeper.give (give.h). -DVERSION=N; further:
 *
 *     -DSAYS=HR_UNLOAD_...   what it says about its own unloading
 *     -DATEXIT               registers an exit handler and has a destructor: dlclose runs both
 *     -DTHREAD_EXIT          registers a destructor with the thread that loads it
 *     -DHELD                 opens itself once more
 *     -DUNIQUE               has a unique symbol, which dlclose leaves alone */
#define _GNU_SOURCE
#include "give.h"
#include <dlfcn.h>
#include <hotreload/patch.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION 1
#endif

static void callback(int number) { (void)number; }

static int area(const void *shape) { return shape != 0; }

static const struct {
    int (*area)(const void *);
    void (*callback)(int);
} shape_table = {area, callback};

static int32_t give(void *state, const void *input, void *output) {
    (void)state;
    switch (*(const int *)input) {
    case GIVE_VTABLE: *(const void **)output = &shape_table; break;
    case GIVE_LITERAL: *(const char **)output = "a literal of the module"; break;
    case GIVE_CALLBACK: *(void (**)(int))output = callback; break;
    case GIVE_CRASH: *(volatile int *)0 = 1; break;
    case GIVE_BLOCK:
        __atomic_store_n((int *)output, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n((int *)output, __ATOMIC_SEQ_CST)) usleep(1000);
        break;
    default: break;
    }
    return VERSION;
}

#ifdef ATEXIT
static void say(const char *text) {
    if (write(2, text, 4) < 0) return;
}

static void bye(void) { say("bye\n"); }

__attribute__((destructor)) static void gone(void) { say("end\n"); }

__attribute__((constructor)) static void registers(void) { atexit(bye); }
#endif

#ifdef THREAD_EXIT
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;
static int object;

static void destroy(void *which) { (void)which; }

__attribute__((constructor)) static void registers(void) {
    __cxa_thread_atexit_impl(destroy, &object, &__dso_handle);
    object = 1;
}
#endif

#ifdef HELD
__attribute__((constructor)) static void hold(void) {
    Dl_info self;
    if (dladdr(&shape_table, &self)) dlopen(self.dli_fname, RTLD_NOW);
}
#endif

#ifdef UNIQUE
__asm__(".pushsection .data\n.globl only_one\n.type only_one, @gnu_unique_object\n.size only_one, 4\n"
        "only_one: .long 7\n.popsection");
#endif

#ifdef SAYS
HR_MODULE_UNLOAD(SAYS)
#endif

HR_MODULE("keeper", VERSION, HR_PATCH("keeper.give", give))
