/* Shows a flame_image in whatever the standard output is. */
#ifndef SCREEN_H
#define SCREEN_H

#include <stdbool.h>

#include "flame.h"

typedef enum screen_mode {
    SCREEN_LINES, /* no terminal, or one without cursor or keyboard: the host prints a line now and then */
    SCREEN_ASCII, /* no colours: characters of rising brightness */
    SCREEN_256,   /* half-blocks in the 6 x 6 x 6 colour cube */
    SCREEN_24BIT  /* half-blocks in true colour */
} screen_mode;

/* Looks at the standard output, the environment (NO_COLOR, COLORTERM, TERM, and FLAME_COLOUR=24bit|256|none before
 * those) and the locale, and takes over the terminal: alternate screen, no cursor, no echo. It is given back by
 * screen_close, at exit, and when the process dies by a signal that a faulty patch may cause. */
screen_mode screen_open(void);
void screen_close(void);

/* True when characters beyond ASCII can be shown. */
bool screen_unicode(void);

/* Pixels that fit now, a last line of text left free; never more than a flame_image has. Asked every frame, because
 * that is cheaper to get right than SIGWINCH. */
void screen_size(int32_t *width, int32_t *height);

/* Draws the picture and the line of text (ASCII) below it, sending only the cells that changed. False when the terminal
 * is gone. */
bool screen_show(const flame_image *image, int32_t width, int32_t height, const char *text);

/* The next key typed within `seconds`, 0 when there is none; sleeps that long also where there is no keyboard. Returns
 * early when a signal arrives. */
int screen_key(double seconds);

#endif
