/* What a fuzz target consists of; target.c calls it from libFuzzer, or with files from the command line. */
#ifndef HOTRELOAD_TARGET_H
#define HOTRELOAD_TARGET_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Once, before the first input. */
void fuzz_start(void);

/* One input. Writes a line with the code of every answer to `told`, where that is not null. */
void fuzz_one(const uint8_t *bytes, size_t size, FILE *told);

#endif
