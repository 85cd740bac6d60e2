#define _DEFAULT_SOURCE /* ioctl and TIOCGWINSZ beside POSIX */

#include "screen.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <termios.h>
#include <unistd.h>

#define COLUMNS FLAME_WIDTH
#define ROWS (FLAME_HEIGHT / 2)
#define TEXT_SIZE 256
/* The longest that one cell can take: a cursor movement, two true colours and a half-block. */
#define CELL_BYTES 64

#define ENTER "\x1b[?1049h\x1b[?25l\x1b[2J"
#define LEAVE "\x1b[0m\x1b[?25h\x1b[?1049l"
#define FRAME_BEGIN "\x1b[?2026h" /* terminals that know it show the frame in one go, others ignore it */
#define FRAME_END "\x1b[0m\x1b[?2026l"
#define UPPER_HALF "\xe2\x96\x80"

/* What a cell shows: two packed colours, or a character in `upper`. */
typedef struct cell {
    uint32_t upper, lower;
} cell;

static struct {
    screen_mode mode;
    bool unicode, opened, keyboard;
    struct termios before;
    int32_t width, height; /* of the last frame; 0: draw everything */
    char text[TEXT_SIZE];
    cell cells[ROWS][COLUMNS];
    uint32_t ink_upper, ink_lower; /* colours that the terminal writes in now; NO_INK: unknown */
    char buffer[1 << 16];
    size_t used;
    bool gone;
} screen;

#define NO_INK UINT32_MAX

/* ---- output ---- */

static void flush(void) {
    size_t sent = 0;
    while (sent < screen.used && !screen.gone) {
        ssize_t n = write(STDOUT_FILENO, screen.buffer + sent, screen.used - sent);
        if (n > 0) {
            sent += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) { /* someone else made the shared terminal non-blocking */
            struct pollfd writable = {.fd = STDOUT_FILENO, .events = POLLOUT};
            poll(&writable, 1, 100);
        } else if (n == 0 || errno != EINTR) {
            screen.gone = true;
        }
    }
    screen.used = 0;
}

static void put(const char *bytes, size_t size) {
    if (screen.used + size > sizeof screen.buffer) flush();
    memcpy(screen.buffer + screen.used, bytes, size);
    screen.used += size;
}

static void put_text(const char *text) { put(text, strlen(text)); }

/* ---- colours ---- */

/* Nearest step of the 256-colour cube. `dither` from -0.5 to 0.5 steps: without it a dark fire has three shades. The
 * first step is more than twice as wide as the others; dithered in full it would turn the night into a chessboard. */
static uint32_t cube_step(uint8_t value, float dither) {
    float at = (float)value, step = at < 95 ? at / 95.0f : 1.0f + (at - 95.0f) / 40.0f;
    int32_t nearest = (int32_t)(step + dither * (step < 1 ? step : 1) + 0.5f);
    return (uint32_t)(nearest < 0 ? 0 : nearest > 5 ? 5 : nearest);
}

static float dither(int32_t x, int32_t y) {
    static const uint8_t bayer[4][4] = {{0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}};
    return ((float)bayer[y & 3][x & 3] - 7.5f) / 16.0f;
}

static uint32_t colour_of(flame_rgb pixel, int32_t x, int32_t y) {
    if (screen.mode == SCREEN_256) {
        float d = dither(x, y) * 0.8f;
        return 16 + 36 * cube_step(pixel.r, d) + 6 * cube_step(pixel.g, d) + cube_step(pixel.b, d);
    }
    /* Seven bits a channel: nobody sees the eighth, and far fewer cells change from frame to frame. */
    return (uint32_t)(pixel.r & 0xFE) << 16 | (uint32_t)(pixel.g & 0xFE) << 8 | (uint32_t)(pixel.b & 0xFE);
}

static uint32_t character_of(flame_rgb upper, flame_rgb lower) {
    static const char ramp[] = " .,:;-=+*oxOX%#@";
    const flame_rgb both[2] = {upper, lower};
    uint32_t light = 0;
    /* Halfway between how bright it looks and its strongest channel: by looks alone, a dull red is next to black. */
    for (int i = 0; i < 2; i++) {
        uint32_t most = both[i].r > both[i].g ? both[i].r : both[i].g;
        light += 54u * both[i].r + 183u * both[i].g + 19u * both[i].b + 256u * (most > both[i].b ? most : both[i].b);
    }
    light /= 1024;                       /* 0 to 255 */
    light = light < 32 ? 0 : light - 31; /* the night stays blank */
    return (uint32_t)ramp[light * (sizeof ramp - 2) / 224];
}

static cell cell_of(const flame_image *image, int32_t column, int32_t row) {
    flame_rgb upper = image->pixels[2 * row][column], lower = image->pixels[2 * row + 1][column];
    if (screen.mode == SCREEN_ASCII) return (cell){character_of(upper, lower), 0};
    return (cell){colour_of(upper, column, 2 * row), colour_of(lower, column, 2 * row + 1)};
}

static void put_colour(const char *kind, uint32_t colour) {
    char text[CELL_BYTES];
    int n;
    if (screen.mode == SCREEN_256) n = snprintf(text, sizeof text, "\x1b[%s;5;%um", kind, colour);
    else
        n = snprintf(text, sizeof text, "\x1b[%s;2;%u;%u;%um", kind, colour >> 16, colour >> 8 & 255, colour & 255);
    put(text, (size_t)n);
}

static void put_cell(cell what) {
    if (screen.mode == SCREEN_ASCII) {
        char character = (char)what.upper;
        put(&character, 1);
        return;
    }
    if (what.upper != screen.ink_upper) put_colour("38", what.upper);
    if (what.lower != screen.ink_lower) put_colour("48", what.lower);
    screen.ink_upper = what.upper;
    screen.ink_lower = what.lower;
    put_text(UPPER_HALF);
}

/* ---- the terminal ---- */

/* Async-signal-safe: also called from the handlers below. */
static void restore(void) {
    if (!screen.opened) return;
    screen.opened = false;
    if (screen.keyboard) tcsetattr(STDIN_FILENO, TCSANOW, &screen.before);
    ssize_t ignored = write(STDOUT_FILENO, LEAVE, sizeof LEAVE - 1);
    (void)ignored; /* nothing can be done about it here */
}

/* A patch under edit may crash. The handler gives the terminal back and returns: the fault then happens again, with the
 * default action, because SA_RESETHAND has taken this handler away; core dump and exit status stay what they were. A
 * signal that somebody sent would not happen again by itself. */
static void on_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    restore();
    if (info->si_code <= 0) raise(number);
}

static void catch_faults(void) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = (int)(SA_RESETHAND | SA_SIGINFO)};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) sigaction(faults[i], &action, NULL);
}

static bool has(const char *text, const char *part) { return text && strstr(text, part); }

static screen_mode colours_wanted(void) {
    const char *chosen = getenv("FLAME_COLOUR"), *none = getenv("NO_COLOR"), *term = getenv("TERM");
    const char *depth = getenv("COLORTERM");
    if (has(chosen, "24")) return SCREEN_24BIT;
    if (has(chosen, "256")) return SCREEN_256;
    if (has(chosen, "none") || (none && *none) || !screen.unicode) return SCREEN_ASCII;
    if (has(depth, "truecolor") || has(depth, "24bit") || has(term, "direct")) return SCREEN_24BIT;
    return has(term, "256color") ? SCREEN_256 : SCREEN_ASCII;
}

/* A terminal that can move its cursor, with a person at it: `hotreload watch -- build/host` shows the output of its
 * host line by line, in a pane, and gives it a terminal to write to but no keyboard. */
static bool can_draw(void) {
    const char *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && term && strcmp(term, "dumb") != 0;
}

static void take_keyboard(void) {
    screen.keyboard = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &screen.before) == 0;
    if (!screen.keyboard) return;
    struct termios raw = screen.before;
    raw.c_lflag &= ~(tcflag_t)(ECHO | ICANON); /* signals stay: Ctrl-C must work even if the loop hangs */
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

screen_mode screen_open(void) {
    setlocale(LC_CTYPE, "");
    screen.unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (!can_draw()) return screen.mode = SCREEN_LINES;
    screen.mode = colours_wanted();
    screen.width = screen.height = 0;
    take_keyboard();
    screen.opened = true;
    catch_faults();
    atexit(restore);
    put_text(ENTER);
    flush();
    return screen.mode;
}

void screen_close(void) { restore(); }

bool screen_unicode(void) { return screen.unicode; }

void screen_size(int32_t *width, int32_t *height) {
    struct winsize size = {.ws_col = 80, .ws_row = 25};
    if (screen.mode != SCREEN_LINES && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col == 0)
        size = (struct winsize){.ws_col = 80, .ws_row = 25}; /* a terminal that does not know its size says 0 */
    int32_t columns = size.ws_col, rows = size.ws_row - 1;
    *width = columns < 1 ? 1 : columns > COLUMNS ? COLUMNS : columns;
    *height = 2 * (rows < 1 ? 1 : rows > ROWS ? ROWS : rows);
}

static void show_text(int32_t row, int32_t width, const char *text) {
    if (strncmp(text, screen.text, TEXT_SIZE - 1) == 0) return;
    snprintf(screen.text, sizeof screen.text, "%s", text);
    char line[TEXT_SIZE + 32];
    int n = snprintf(line, sizeof line, "\x1b[0m\x1b[%d;1H%.*s\x1b[K", row, (int)width, screen.text);
    put(line, (size_t)n);
    screen.ink_upper = screen.ink_lower = NO_INK;
}

bool screen_show(const flame_image *image, int32_t width, int32_t height, const char *text) {
    bool all = width != screen.width || height != screen.height;
    screen.width = width;
    screen.height = height;
    screen.ink_upper = screen.ink_lower = NO_INK;
    put_text(FRAME_BEGIN);
    if (all) {
        put_text("\x1b[2J");
        screen.text[0] = '\0';
    }
    for (int32_t row = 0; row < height / 2; row++) {
        bool there = false; /* the cursor stands at this column already */
        for (int32_t column = 0; column < width; column++) {
            cell next = cell_of(image, column, row), *shown = &screen.cells[row][column];
            if (!all && next.upper == shown->upper && next.lower == shown->lower) {
                there = false;
                continue;
            }
            *shown = next;
            char move[32];
            if (!there) put(move, (size_t)snprintf(move, sizeof move, "\x1b[%d;%dH", row + 1, column + 1));
            put_cell(next);
            there = true;
        }
    }
    show_text(height / 2 + 1, width, text);
    put_text(FRAME_END);
    flush();
    return !screen.gone;
}

int screen_key(double seconds) {
    struct timespec wait = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    fd_set keys;
    FD_ZERO(&keys);
    if (screen.keyboard) FD_SET(STDIN_FILENO, &keys);
    if (pselect(screen.keyboard ? STDIN_FILENO + 1 : 0, &keys, NULL, NULL, &wait, NULL) <= 0) return 0;
    char key = 0;
    ssize_t n = read(STDIN_FILENO, &key, 1);
    if (n == 0) screen.gone = true; /* readable and empty: the terminal hung up */
    return n == 1 ? key : 0;
}
