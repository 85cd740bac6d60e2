/* The two ways to run a fuzz target: libFuzzer's entry points, or (with -DFUZZ_FILES) a main that runs each file named
 * on its command line once and prints the codes that it led to. */
#include "target.h"

#include <stdlib.h>

#ifdef FUZZ_FILES

static uint8_t *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) return NULL;
    long length = ftell(file);
    rewind(file);
    uint8_t *bytes = length < 0 ? NULL : malloc((size_t)length + 1);
    *size = bytes ? fread(bytes, 1, (size_t)length, file) : 0;
    fclose(file);
    return bytes;
}

int main(int count, char **paths) {
    fuzz_start();
    for (int i = 1; i < count; i++) {
        size_t size = 0;
        uint8_t *bytes = read_file(paths[i], &size);
        if (bytes == NULL) return 2;
        printf("%s\n", paths[i]);
        fuzz_one(bytes, size, stdout);
        free(bytes);
    }
    return 0;
}

#else

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count, (void)arguments;
    fuzz_start();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    fuzz_one(bytes, size, NULL);
    return 0;
}

#endif
