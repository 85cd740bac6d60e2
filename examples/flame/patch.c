/* The fire. Change a knob, save, run `make`: the burning fire changes, and not one spark of it is lost.
 *
 * Things to try: PALETTE ghost. WIND 0.5. COOLING 0.6, then 2. FIRES 3. GRAVITY 1. SWIRL 1. Colours of your own. */

#define PALETTE   fire  /* fire, ghost, toxic, rose, ice, or add one to the table below */
#define WIND      0.0f  /* screen heights a second; to the left below 0 */
#define GUSTS     0.10f /* how much the wind comes and goes */
#define RISE      0.80f /* how fast heat climbs, screen heights a second */
#define COOLING   1.00f /* 0.5: a bonfire; 2: a candle */
#define SWIRL     0.22f /* how wildly the flames lick */
#define FIRES     1     /* side by side */
#define FIRE_SIZE 0.42f /* width of the fires together, screen widths */
#define SPARKS    24.0f /* a second */
#define GRAVITY   -0.30f /* of sparks, screen heights / s^2; they float upwards below 0 */
#define STARS     1     /* 0: a cloudy night */
#define GLOW      0.9f  /* how far the fire lights the night */

#include <hotreload/patch.h>
#include <math.h>

#include "flame.h"

/* Colours of rising heat, evenly spaced, from cold to white-hot. The first should be black: flames add light. */
#define COLOURS 7
static const uint32_t fire[COLOURS] = {0x000000, 0x2A0406, 0x7E1204, 0xD23E06, 0xFB8C14, 0xFFD650, 0xFFF8D2};
static const uint32_t ghost[COLOURS] = {0x000000, 0x06082C, 0x0C2A78, 0x1668C8, 0x3CAAF8, 0xA0E2FF, 0xF4FCFF};
static const uint32_t toxic[COLOURS] = {0x000000, 0x021C08, 0x0A5010, 0x288C0E, 0x78CC12, 0xCEF44A, 0xFAFFD6};
static const uint32_t rose[COLOURS] = {0x000000, 0x220222, 0x68085C, 0xB61C84, 0xF44A94, 0xFFA2B4, 0xFFF0E8};
static const uint32_t ice[COLOURS] = {0x000000, 0x041422, 0x0E4058, 0x2A7888, 0x64B4B6, 0xBCECE6, 0xFFFFFF};

/* Names them all, so that the compiler does not complain about those that PALETTE leaves out. */
static const uint32_t *const palettes[] = {fire, ghost, toxic, rose, ice};

/* In this form of it a value that is no number becomes `low`: a knob gone wild must not index outside the picture. */
static float clamp(float value, float low, float high) { return value > low ? (value < high ? value : high) : low; }
static float mix(float a, float b, float t) { return a + (b - a) * t; }
static float smooth(float t) { return t * t * (3.0f - 2.0f * t); }

/* A fixed random number in [0, 1) for every lattice point: what noise and stars are made of. */
static float hash(int32_t x, int32_t y) {
    uint32_t h = (uint32_t)x * 0x9E3779B1u ^ (uint32_t)y * 0x85EBCA77u;
    h = (h ^ (h >> 15)) * 0x2C1B3C6Du;
    h = (h ^ (h >> 12)) * 0x297A2D39u;
    return (float)((h ^ (h >> 15)) >> 8) * (1.0f / 16777216.0f);
}

/* Smooth noise in [0, 1), one bump a unit. */
static float noise(float x, float y) {
    float fx = floorf(x), fy = floorf(y);
    int32_t ix = (int32_t)fx, iy = (int32_t)fy;
    float tx = smooth(x - fx), ty = smooth(y - fy);
    return mix(mix(hash(ix, iy), hash(ix + 1, iy), tx), mix(hash(ix, iy + 1), hash(ix + 1, iy + 1), tx), ty);
}

/* The next random number of the host's generator, in [0, 1): the state is the host's, so an edit repeats nothing. */
static float chance(flame_state *state) {
    uint32_t r = state->random;
    r ^= r << 13;
    r ^= r >> 17;
    r ^= r << 5;
    state->random = r;
    return (float)(r >> 8) * (1.0f / 16777216.0f);
}

static float wind(const flame_state *state) {
    float t = (float)state->time;
    return WIND + GUSTS * (noise(t * 0.35f, 7.0f) + noise(t * 1.1f, 9.0f) - 1.0f);
}

/* Heat between pixels. Nothing burns outside the picture; the ground is as hot as what lies on it. */
static float heat_at(const flame_state *state, float x, float y) {
    float ground = (float)(state->height - 1);
    if (!(y >= 0 && x >= 0 && x <= (float)(state->width - 1))) return 0;
    if (y > ground) y = ground;
    int32_t ix = (int32_t)x, iy = (int32_t)y;
    int32_t jx = ix + 1 < state->width ? ix + 1 : ix, jy = iy + 1 < state->height ? iy + 1 : iy;
    float tx = x - (float)ix, ty = y - (float)iy;
    float above = mix(state->heat[iy][ix], state->heat[iy][jx], tx);
    float below = mix(state->heat[jy][ix], state->heat[jy][jx], tx);
    return mix(above, below, ty);
}

/* How much a column feeds the fire, 0 to 1: a flickering hump for each of the FIRES. */
static float fuel(const flame_state *state, int32_t x) {
    float at = ((float)x + 0.5f) / (float)state->width, sum = 0;
    float reach = FIRE_SIZE / (float)FIRES * 0.5f;
    for (int32_t i = 0; i < FIRES; i++) {
        float d = (at - ((float)i + 0.5f) / (float)FIRES) / reach;
        if (FIRES == 1) d = (at - 0.5f) / reach;
        sum += clamp(1.0f - d * d, 0, 1);
    }
    float t = (float)state->time;
    float flicker = 0.45f + 0.8f * noise((float)x * 0.16f, t * 3.1f) + 0.25f * noise((float)x * 0.5f, t * 7.0f);
    return clamp(sqrtf(sum) * flicker, 0, 1);
}

/* Every pixel takes the heat of the place that it has risen from, a little cooled. Looking back, instead of pushing
 * heat forward, leaves no holes at any speed. */
static void burn(flame_state *state, float dt) {
    float unit = (float)state->height, t = (float)state->time, side = wind(state) * unit * dt;
    for (int32_t y = 0; y < state->height; y++) {
        float up = 1.0f - (float)y / unit; /* 0 at the ground, 1 at the top */
        for (int32_t x = 0; x < state->width; x++) {
            float u = (float)x / unit * 6.0f, v = (float)y / unit * 6.0f + t * RISE * 4.0f;
            float lick = (noise(u, v) + 0.5f * noise(u * 2.3f + 5.0f, v * 2.0f) - 0.75f) * SWIRL * unit * dt * 4.0f;
            float climb = RISE * unit * dt * (0.65f + 0.7f * noise(u * 0.7f + 31.0f, v * 0.6f));
            float heat = heat_at(state, (float)x - lick - side * (0.5f + 2.0f * up), (float)y + climb);
            float loss = COOLING * dt * (0.55f + 0.9f * noise(u * 1.7f, v * 0.8f + 17.0f)) * (0.75f + 0.9f * up);
            state->scratch[y][x] = clamp(heat - loss, 0, 1);
        }
    }
    for (int32_t y = 0; y < state->height; y++)
        for (int32_t x = 0; x < state->width; x++) state->heat[y][x] = state->scratch[y][x];
    int32_t bed = state->height / 18 + 1; /* rows that burn by themselves */
    for (int32_t x = 0; x < state->width; x++) {
        float fed = fuel(state, x);
        for (int32_t depth = 1; depth <= bed && depth <= state->height; depth++) {
            float heat = fed * ((float)depth / (float)bed), *here = &state->heat[state->height - 1 - bed + depth][x];
            if (*here < heat) *here = heat;
        }
    }
}

static void launch(flame_state *state) {
    for (int32_t i = 0; i < FLAME_SPARKS; i++) {
        flame_spark *spark = &state->sparks[i];
        if (spark->life > 0) continue;
        int32_t x = (int32_t)(chance(state) * (float)state->width);
        if (fuel(state, x) < 0.4f) return; /* a cold column: this one dies at birth */
        float unit = (float)state->height;
        spark->x = (float)x;
        spark->y = unit * (0.80f + 0.12f * chance(state));
        spark->vx = (chance(state) - 0.5f) * 0.25f * unit;
        spark->vy = -(0.25f + 0.35f * chance(state)) * unit;
        spark->age = 0;
        spark->life = 0.8f + 2.2f * chance(state);
        return;
    }
}

static void fly(flame_state *state, float dt) {
    float unit = (float)state->height, t = (float)state->time, side = wind(state) * unit;
    for (int32_t i = 0; i < FLAME_SPARKS; i++) {
        flame_spark *spark = &state->sparks[i];
        if (spark->life <= 0) continue;
        spark->age += dt;
        if (!(spark->age < spark->life && spark->y >= 0 && spark->y < unit)) {
            spark->life = 0;
            continue;
        }
        float flutter = (noise(spark->x * 0.15f, spark->y * 0.15f + t * 2.0f) - 0.5f) * unit * 1.6f;
        spark->vx += (flutter + side - spark->vx * 0.6f) * dt;
        spark->vy += (GRAVITY * unit - spark->vy * 0.4f) * dt;
        spark->x += spark->vx * dt;
        spark->y += spark->vy * dt;
    }
    /* About as many launches fail, over cold ground, as FIRE_SIZE leaves cold: SPARKS is what is tried. */
    for (state->spark_debt += SPARKS * dt; state->spark_debt >= 1; state->spark_debt -= 1) launch(state);
}

static int32_t update(void *host, const void *input, void *output) {
    (void)output;
    const flame_tick *tick = input;
    burn(host, tick->dt);
    fly(host, tick->dt);
    return 0;
}

static int32_t palette(void *host, const void *input, void *output) {
    (void)host, (void)input, (void)palettes;
    const uint32_t *colours = PALETTE;
    flame_palette *out = output;
    for (int32_t i = 0; i < FLAME_COLOURS; i++) {
        float at = (float)(i * (COLOURS - 1)) / (float)FLAME_COLOURS, t = at - floorf(at);
        uint32_t a = colours[(int32_t)at], b = colours[(int32_t)at + 1];
        out->colours[i].r = (uint8_t)mix((float)(a >> 16), (float)(b >> 16), t);
        out->colours[i].g = (uint8_t)mix((float)(a >> 8 & 255), (float)(b >> 8 & 255), t);
        out->colours[i].b = (uint8_t)mix((float)(a & 255), (float)(b & 255), t);
    }
    return 0;
}

static flame_rgb add(flame_rgb pixel, flame_rgb light, float share) {
    pixel.r = (uint8_t)clamp((float)pixel.r + (float)light.r * share, 0, 255);
    pixel.g = (uint8_t)clamp((float)pixel.g + (float)light.g * share, 0, 255);
    pixel.b = (uint8_t)clamp((float)pixel.b + (float)light.b * share, 0, 255);
    return pixel;
}

/* The night behind the fire: a sky that brightens towards the ground, and stars that keep their places. */
static flame_rgb night(const flame_state *state, int32_t x, int32_t y) {
    float down = (float)y / (float)state->height;
    flame_rgb sky = {(uint8_t)(5 + 9 * down), (uint8_t)(7 + 8 * down), (uint8_t)(18 + 10 * down)};
    if (STARS && down < 0.75f && hash(x, y * 3 + 1) > 0.9925f) {
        float phase = hash(x + 17, y) * 6.28f, speed = 0.7f + 2.0f * hash(x, y + 91);
        float twinkle = 0.55f + 0.45f * sinf((float)state->time * speed + phase);
        flame_rgb star = {190, 200, 220};
        sky = add(sky, star, twinkle * (1.0f - down));
    }
    return sky;
}

static float mean_heat(const flame_state *state) {
    float sum = 0;
    for (int32_t y = 0; y < state->height; y += 2)
        for (int32_t x = 0; x < state->width; x += 2) sum += state->heat[y][x];
    return sum * 4.0f / (float)(state->width * state->height + 1);
}

static void paint_sparks(const flame_state *state, const flame_palette *colours, flame_image *image) {
    for (int32_t i = 0; i < FLAME_SPARKS; i++) {
        const flame_spark *spark = &state->sparks[i];
        if (!(spark->life > 0 && spark->x >= 0 && spark->x < (float)state->width)) continue;
        if (!(spark->y >= 0 && spark->y < (float)state->height)) continue;
        int32_t x = (int32_t)spark->x, y = (int32_t)spark->y;
        float left = 1.0f - spark->age / spark->life;
        flame_rgb light = colours->colours[(int32_t)(clamp(0.45f + 0.5f * left, 0, 1) * (FLAME_COLOURS - 1))];
        image->pixels[y][x] = add(image->pixels[y][x], light, clamp(left * 1.6f, 0, 1));
    }
}

static int32_t draw(void *host, const void *input, void *output) {
    const flame_state *state = host;
    const flame_palette *colours = input;
    flame_image *image = output;
    flame_rgb warm = colours->colours[FLAME_COLOURS * 55 / 100];
    float lit = clamp(mean_heat(state) * 5.0f, 0, 1) * GLOW * 0.36f;
    float reach = 0.9f * (float)state->height, middle = 0.5f * (float)state->width, low = 0.8f * (float)state->height;
    for (int32_t y = 0; y < state->height; y++) {
        for (int32_t x = 0; x < state->width; x++) {
            float heat = clamp(state->heat[y][x], 0, 1);
            float dx = ((float)x - middle) / reach * 0.7f, dy = ((float)y - low) / reach;
            flame_rgb pixel = add(night(state, x, y), warm, lit / (1.0f + 7.0f * (dx * dx + dy * dy)));
            /* Thin flames let the night through, thick ones hide it. */
            float cover = clamp(heat * 3.0f, 0, 1);
            flame_rgb black = {0, 0, 0};
            pixel = add(add(black, pixel, 1.0f - cover), colours->colours[(int32_t)(heat * (FLAME_COLOURS - 1))], 1.0f);
            image->pixels[y][x] = pixel;
        }
    }
    paint_sparks(state, colours, image);
    return 0;
}

HR_MODULE("flame", 1,
          HR_PATCH("flame.update", update),
          HR_PATCH("flame.palette", palette),
          HR_PATCH("flame.draw", draw))
