/* What the host and its patch modules share. The host owns a flame_state for its whole life; the three slots are called
 * once a frame, in this order, all on the same generation:
 *
 *     flame.update   (flame_state, flame_tick *,    -)                  moves heat and sparks on
 *     flame.palette  (flame_state, -,               flame_palette *)    which colour a heat has
 *     flame.draw     (flame_state, flame_palette *, flame_image *)      paints the pixels
 *
 * A module built against another version of this file must not be loaded into a running host. */
#ifndef FLAME_H
#define FLAME_H

#include <stdint.h>

/* Pixels. A terminal cell shows two, one above the other, so 640 x 200 fill a terminal of 640 x 100 cells. */
#define FLAME_WIDTH 640
#define FLAME_HEIGHT 200
#define FLAME_SPARKS 256
#define FLAME_COLOURS 256

/* A glowing particle. Positions in pixels, velocities in pixels a second, age and life in seconds; life 0: unused. */
typedef struct flame_spark {
    float x, y, vx, vy, age, life;
} flame_spark;

/* Everything that outlives an edit. heat is 0 (cold) to 1, row 0 at the top; only height x width of it is in use. */
typedef struct flame_state {
    double time; /* seconds since the host began */
    uint64_t frames;
    int32_t width, height; /* pixels; follow the terminal */
    uint32_t random;       /* of an xorshift generator; never 0 */
    float spark_debt;      /* sparks due, the fraction included */
    flame_spark sparks[FLAME_SPARKS];
    float user[64]; /* zeros at first, yours: memory for experiments that survives their edits */
    float heat[FLAME_HEIGHT][FLAME_WIDTH];
    float scratch[FLAME_HEIGHT][FLAME_WIDTH]; /* nothing in it survives a frame */
} flame_state;

typedef struct flame_tick {
    float dt; /* seconds since the last frame, at most 0.1 */
} flame_tick;

typedef struct flame_rgb {
    uint8_t r, g, b;
} flame_rgb;

typedef struct flame_palette {
    flame_rgb colours[FLAME_COLOURS];
} flame_palette;

typedef struct flame_image {
    flame_rgb pixels[FLAME_HEIGHT][FLAME_WIDTH];
} flame_image;

#endif
