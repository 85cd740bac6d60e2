/* Just enough JSON to print what the tests read. */
#ifndef TEST_JSON_H
#define TEST_JSON_H

#include <stdio.h>

static inline void json_text(FILE *out, const char *text) {
    fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\') fprintf(out, "\\%c", *at);
        else if (*at < 0x20) fprintf(out, "\\u%04x", *at);
        else fputc(*at, out);
    }
    fputc('"', out);
}

/* Prints `"key": "text"`, with the comma that follows it. */
static inline void json_pair(FILE *out, const char *key, const char *text) {
    fprintf(out, "\"%s\": ", key);
    json_text(out, text);
    fputs(", ", out);
}

#endif
