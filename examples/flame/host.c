/* flame: a fire in a terminal. The host owns the heat, the sparks and the clock; what burns and how it looks are slots.
 * Without a patch there are only embers. */
#define _DEFAULT_SOURCE /* POSIX, and what the terminal part of it needs */

#include <hotreload/hotreload.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "screen.h"

#define FPS 30
#define DT_MAX 0.1f /* s; a host that was stopped goes on where it was instead of leaping */
#define NEWS_SECONDS 4.0

/* ---- the fallbacks: embers, and what is left of a fire whose patch was taken back dies down ---- */

static int32_t embers(void *state, const void *input, void *output) {
    (void)output;
    flame_state *self = state;
    float fade = 1.0f - 0.9f * ((const flame_tick *)input)->dt;
    for (int32_t y = 0; y < self->height; y++)
        for (int32_t x = 0; x < self->width; x++) self->heat[y][x] *= fade;
    for (int32_t x = 0; x < self->width; x++) {
        uint32_t coal = (uint32_t)(x / 3) * 2654435761u >> 28; /* 0 to 15: how bright this coal can get */
        uint32_t breath = (uint32_t)(self->time * 12.0 + coal * 5) % 32;
        float glow = 0.2f + 0.02f * (float)coal + 0.012f * (float)(breath < 16 ? breath : 32 - breath);
        for (int32_t y = self->height - 1; y >= self->height - 2 && y >= 0; y--)
            if (self->heat[y][x] < glow) self->heat[y][x] = glow;
    }
    return 0;
}

static int32_t dull(void *state, const void *input, void *output) {
    (void)state, (void)input;
    flame_palette *palette = output;
    for (int32_t i = 0; i < FLAME_COLOURS; i++)
        palette->colours[i] = (flame_rgb){(uint8_t)(i < 213 ? i * 6 / 5 : 255), (uint8_t)(i / 4), (uint8_t)(i / 16)};
    return 0;
}

static int32_t plain(void *state, const void *input, void *output) {
    const flame_state *self = state;
    const flame_palette *palette = input;
    flame_image *image = output;
    for (int32_t y = 0; y < self->height; y++)
        for (int32_t x = 0; x < self->width; x++)
            image->pixels[y][x] = palette->colours[(int32_t)(self->heat[y][x] * (FLAME_COLOURS - 1))];
    return 0;
}

static hr_slot slot_update = HR_SLOT("flame.update", embers);
static hr_slot slot_palette = HR_SLOT("flame.palette", dull);
static hr_slot slot_draw = HR_SLOT("flame.draw", plain);

/* ---- the host ---- */

static flame_state state = {.random = 2463534242u};
static flame_palette palette;
static flame_image image;

static volatile sig_atomic_t asked_to_stop, asked_to_sleep;

static void on_stop(int number) {
    (void)number;
    asked_to_stop = 1;
}

static void on_sleep(int number) {
    (void)number;
    asked_to_sleep = 1;
}

static void catch_signals(void) {
    struct sigaction stop = {.sa_handler = on_stop}, sleep = {.sa_handler = on_sleep}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGHUP, &stop, NULL);
    sigaction(SIGTSTP, &sleep, NULL);
    sigaction(SIGPIPE, &ignore, NULL); /* a closed output is noticed where it is written */
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Stretches the fire to a new size: a resized window shows the same flames, not a cold start. */
static void resize(int32_t width, int32_t height) {
    if (width == state.width && height == state.height) return;
    if (state.width > 0) {
        memcpy(state.scratch, state.heat, sizeof state.heat);
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = 0; x < width; x++)
                state.heat[y][x] = state.scratch[y * state.height / height][x * state.width / width];
        for (int32_t i = 0; i < FLAME_SPARKS; i++) {
            state.sparks[i].x *= (float)width / (float)state.width;
            state.sparks[i].y *= (float)height / (float)state.height;
        }
    }
    state.width = width;
    state.height = height;
}

/* All three slots in one frame: new flames in an old palette would be a glimpse of a fire that nobody wrote. */
static const char *burn(float dt) {
    flame_tick tick = {dt};
    hr_frame frame = hr_frame_begin();
    int32_t updated = hr_frame_call(&frame, &slot_update, &state, &tick, NULL);
    int32_t mixed = hr_frame_call(&frame, &slot_palette, &state, NULL, &palette);
    int32_t drawn = hr_frame_call(&frame, &slot_draw, &state, &palette, &image);
    hr_frame_end(&frame);
    state.time += dt;
    state.frames += 1;
    return updated ? "flame.update failed" : mixed ? "flame.palette failed" : drawn ? "flame.draw failed" : "";
}

static int32_t sparks(void) {
    int32_t count = 0;
    for (int32_t i = 0; i < FLAME_SPARKS; i++) count += state.sparks[i].life > 0;
    return count;
}

static int32_t heat_percent(void) {
    double sum = 0;
    for (int32_t y = 0; y < state.height; y++)
        for (int32_t x = 0; x < state.width; x++) sum += (double)state.heat[y][x];
    return (int32_t)(100 * sum / ((double)state.width * state.height));
}

/* The fire's outline in `size` columns: how high each one burns. */
static void outline(char *text, int32_t size) {
    static const char *const blocks[] = {" ", "\xe2\x96\x81", "\xe2\x96\x82", "\xe2\x96\x83", "\xe2\x96\x84",
                                         "\xe2\x96\x85", "\xe2\x96\x86", "\xe2\x96\x87", "\xe2\x96\x88"};
    static const char *const plain_blocks[] = {" ", ".", ":", "-", "=", "+", "*", "#", "@"};
    const char *const *levels = screen_unicode() ? blocks : plain_blocks;
    for (int32_t i = 0; i < size; i++) {
        int32_t x = i * state.width / size, y = 0;
        while (y < state.height && state.heat[y][x] < 0.2f) y++;
        text = stpcpy(text, levels[(state.height - y) * 8 / state.height]);
    }
}

static void print_summary(double fps) {
    enum { SIZE = 40 };
    char line[SIZE * 3 + 1];
    outline(line, SIZE);
    printf("frames=%" PRIu64 " fps=%.0f heat=%" PRId32 "%% sparks=%" PRId32 " |%s|\n", state.frames, fps,
           heat_percent(), sparks(), line);
}

static void serve(void) {
    hr_failure failure = {0};
    hr_set_context(NULL, &state);
    hr_declare(NULL, &slot_update);
    hr_declare(NULL, &slot_palette);
    hr_declare(NULL, &slot_draw);
    if (hr_serve(NULL, "flame", 0, &failure) != HR_OK)
        fprintf(stderr, "flame: not watchable: %s %s\n", failure.reason, failure.fix);
}

/* Ctrl-Z: the shell gets its screen back, the fire waits. */
static void sleep_until_continued(void) {
    asked_to_sleep = 0;
    screen_close();
    raise(SIGSTOP);
    screen_open();
}

typedef struct show {
    screen_mode mode;
    double second_began;
    int32_t second_frames;
    double fps;
    uint64_t generation;
    double news_until;
} show;

static void count_frame(show *self, double time) {
    self->second_frames += 1;
    if (time - self->second_began < 1.0) return;
    self->fps = self->second_frames / (time - self->second_began);
    self->second_began = time;
    self->second_frames = 0;
    if (self->mode == SCREEN_LINES) print_summary(self->fps);
}

static bool present(show *self, double time, const char *trouble) {
    if (self->mode == SCREEN_LINES) return !ferror(stdout);
    uint64_t generation = hr_generation(NULL);
    if (generation != self->generation) self->news_until = time + NEWS_SECONDS;
    self->generation = generation;
    char text[160];
    const char *news = time < self->news_until ? " <- just swapped, still burning" : "";
    snprintf(text, sizeof text, " flame  generation %" PRIu64 "%s  %.0f fps  %" PRId32 " sparks  q: quit  %s",
             generation, news, self->fps, sparks(), trouble);
    return screen_show(&image, state.width, state.height, text);
}

int main(void) {
    catch_signals();
    setvbuf(stdout, NULL, _IOLBF, 0); /* into a pipe, too: whoever reads it wants each line now */
    serve();
    show self = {.mode = screen_open(), .second_began = now(), .generation = hr_generation(NULL)};
    double last = now(), due = last;
    while (!asked_to_stop) {
        if (asked_to_sleep) sleep_until_continued();
        int32_t width, height;
        screen_size(&width, &height);
        resize(width, height);
        double time = now();
        float dt = (float)(time - last);
        last = time;
        const char *trouble = burn(dt < DT_MAX ? dt : DT_MAX);
        count_frame(&self, time);
        if (!present(&self, time, trouble)) break;
        due = due + 1.0 / FPS > time ? due + 1.0 / FPS : time;
        for (double left = due - now(); left > 0 && !asked_to_stop && !asked_to_sleep; left = due - now())
            if (screen_key(left) == 'q') asked_to_stop = 1;
    }
    screen_close();
    hr_stop();
    printf("stopped after %" PRIu64 " frames\n", state.frames);
    return 0;
}
