/* hotreload for C++17: slots that are called like functions, modules of plain functions, frames that end by themselves.
 *
 * The host:
 *
 *     static int add(Counter &counter, int amount) { return counter.total += amount; }     // the fallback
 *
 *     static hotreload::slot<int(Counter &, int)> counter_add("counter.add", hotreload::function<add>);
 *
 *     counter_add.declare();
 *     hotreload::serve("counter");                     // `hotreload watch` finds this process now
 *     int total = counter_add(counter, 3);
 *
 * A module, which links against nothing of hotreload:
 *
 *     static int add(Counter &counter, int amount) { return counter.total += 10 * amount; }
 *
 *     HOTRELOAD_MODULE("counter", 1, hotreload::patch<add>("counter.add"))
 *
 * A slot's type is that of its functions: Out(State &, const In &), where each part may be missing. State is what comes
 * as a reference that is not const, In what comes as a const reference or by value, Out what is returned; it has to be
 * trivially copyable. A function that returns hotreload::status has no Out: what it returns is the call's status.
 *
 * Exceptions do not cross the slot: behind it they become the status threw (-131, as panics of Rust do), and a call
 * whose status is not 0 throws hotreload::call_failed. Without exceptions (-fno-exceptions) call() returns the status.
 *
 * HOTRELOAD_LAYOUT(Counter, COUNTER_FIELDS) describes a struct once for both sides (describe.h); slots and modules that
 * have it as state, input or output then carry its layout. Numbers are described already.
 *
 * -DHOTRELOAD_OFF works as in C: every call is a direct call of the fallback. */
#ifndef HOTRELOAD_HPP
#define HOTRELOAD_HPP

#if !defined(__cplusplus) || __cplusplus < 201703L
#error "hotreload.hpp needs C++17; hotreload.h is for C"
#endif

#include "hotreload.h"
#include "patch.h"

#include <cstdio>
#include <cstddef>
#include <exception>
#include <type_traits>
#if defined(__cpp_exceptions)
#include <stdexcept>
#include <string>
#endif

namespace hotreload {

/* What a call returned. 0 is success by convention; other numbers are the host's and its modules' own. */
enum class status : int32_t {
    ok = 0,
    unresolved = HR_UNRESOLVED, /* nothing implements the slot */
    threw = -131                /* an exception ended the implementation; as hotreload::PANICKED in Rust */
};

/* ---- layouts ---- */

/* The description of a type, or null. HOTRELOAD_LAYOUT gives structs theirs. */
template <class Type> struct described {
    static constexpr const hr_layout_type_v1 *layout = nullptr;
};
template <> struct described<void> {
    static constexpr const hr_layout_type_v1 *layout = &hr_layout_of_void;
};
#define HR_DESCRIBED_(type)                                                                                            \
    template <> struct described<type> {                                                                               \
        static constexpr const hr_layout_type_v1 *layout = &hr_layout_of_##type;                                       \
    };
HR_DESCRIBED_(bool)
HR_DESCRIBED_(float)
HR_DESCRIBED_(double)
HR_DESCRIBED_(char)
HR_DESCRIBED_(int8_t)
HR_DESCRIBED_(int16_t)
HR_DESCRIBED_(int32_t)
HR_DESCRIBED_(int64_t)
HR_DESCRIBED_(uint8_t)
HR_DESCRIBED_(uint16_t)
HR_DESCRIBED_(uint32_t)
HR_DESCRIBED_(uint64_t)
#undef HR_DESCRIBED_

/* ---- functions behind the C ABI ---- */

namespace detail {

template <class Type> using plain = std::remove_cv_t<std::remove_reference_t<Type>>;
template <class Type>
inline constexpr bool is_state = std::is_lvalue_reference_v<Type> && !std::is_const_v<std::remove_reference_t<Type>>;

/* What a function's type says; Out, State and In are void where they are missing. */
template <class Out, class State, class In> struct shape {
    static constexpr bool has_status = std::is_same_v<Out, status>;
    using out = std::conditional_t<has_status, void, Out>;
    using state = State;
    using in = In;
    static_assert(std::is_void_v<out> || (std::is_trivially_copyable_v<out> && !std::is_reference_v<out>),
                  "what a slot returns is copied between host and module: it must be trivially copyable");
    static constexpr hr_layout_entry_v1 layout(const char *symbol) {
        return {symbol, described<state>::layout, described<in>::layout, described<out>::layout};
    }
};

template <class Signature> struct shape_of {
    static_assert(!sizeof(Signature *), "a slot's type is Out(State &, const In &); put several inputs into a struct");
};
template <class Out> struct shape_of<Out()> : shape<Out, void, void> {};
template <class Out, class One>
struct shape_of<Out(One)> : shape<Out, std::conditional_t<is_state<One>, plain<One>, void>,
                                  std::conditional_t<is_state<One>, void, plain<One>>> {};
template <class Out, class One, class Two> struct shape_of<Out(One, Two)> : shape<Out, plain<One>, plain<Two>> {
    static_assert(is_state<One> && !is_state<Two>, "of two parameters, State & comes first, then const In & or In");
};

template <class Function> struct signature_of;
template <class Out, class... Parameters> struct signature_of<Out (*)(Parameters...)> {
    using type = Out(Parameters...);
};
template <class Out, class... Parameters> struct signature_of<Out (*)(Parameters...) noexcept> {
    using type = Out(Parameters...);
};

/* Two signatures that mean the same: int(Counter &, const int &) and int(Counter &, int). */
template <class Left, class Right>
inline constexpr bool same_shape =
    std::is_same_v<typename shape_of<Left>::out, typename shape_of<Right>::out> &&
    std::is_same_v<typename shape_of<Left>::state, typename shape_of<Right>::state> &&
    std::is_same_v<typename shape_of<Left>::in, typename shape_of<Right>::in> &&
    shape_of<Left>::has_status == shape_of<Right>::has_status;

template <auto Function, class Shape> auto invoke(void *state, const void *input) {
    using State = typename Shape::state;
    using In = typename Shape::in;
    if constexpr (std::is_void_v<State> && std::is_void_v<In>) return Function();
    else if constexpr (std::is_void_v<State>) return Function(*static_cast<const In *>(input));
    else if constexpr (std::is_void_v<In>) return Function(*static_cast<State *>(state));
    else return Function(*static_cast<State *>(state), *static_cast<const In *>(input));
}

template <auto Function> int32_t run(void *state, const void *input, void *output) {
    using Shape = shape_of<typename signature_of<decltype(Function)>::type>;
    using Out = typename Shape::out;
    (void)state, (void)input, (void)output;
    if constexpr (Shape::has_status) return static_cast<int32_t>(invoke<Function, Shape>(state, input));
    else if constexpr (std::is_void_v<Out>) invoke<Function, Shape>(state, input);
    else if (output) *static_cast<Out *>(output) = invoke<Function, Shape>(state, input);
    else invoke<Function, Shape>(state, input); /* a caller that wants no result */
    return 0;
}

/* The C function of `Function`. noexcept: what nobody catches ends here, not in frames of C. */
template <auto Function> int32_t entry(void *state, const void *input, void *output) noexcept {
#if defined(__cpp_exceptions)
    try {
        return run<Function>(state, input, output);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "hotreload: an implementation threw: %s\n", error.what());
    } catch (...) {
        std::fprintf(stderr, "hotreload: an implementation threw\n");
    }
    return static_cast<int32_t>(status::threw);
#else
    return run<Function>(state, input, output);
#endif
}

template <auto Function> struct function_tag {};

/* The two ways to call: on what is current, and on a frame's generation. */
struct slot_call {
    hr_slot *slot;
    int32_t operator()(void *state, const void *in, void *out) const { return hr_call(slot, state, in, out); }
};
struct frame_call {
    hr_frame *frame;
    hr_slot *slot;
    int32_t operator()(void *state, const void *in, void *out) const {
        return hr_frame_call(frame, slot, state, in, out);
    }
};

} // namespace detail

/* A function as a slot's fallback: slot<...> add("counter.add", hotreload::function<counter_add>); */
template <auto Function> inline constexpr detail::function_tag<Function> function{};

/* ---- failures ---- */

#if defined(__cpp_exceptions)

/* A call whose status is not 0. */
class call_failed : public std::runtime_error {
  public:
    call_failed(const char *symbol, hotreload::status status)
        : std::runtime_error(std::string(symbol) + " returned status " +
                             std::to_string(static_cast<int32_t>(status))),
          status_(status) {}
    hotreload::status status() const noexcept { return status_; }

  private:
    hotreload::status status_;
};

/* What the shim refuses: the code ("E-DUPLICATE"), what was found and expected, and what to do about it. */
class error : public std::runtime_error {
  public:
#ifndef HOTRELOAD_OFF
    explicit error(hr_status status)
        : error(hr_status_code(status), hr_status_text(status), "", "", hr_status_fix(status)) {}
    explicit error(const hr_failure &failure)
        : error(hr_status_code(failure.status), failure.reason, failure.found, failure.expected, failure.fix) {}
#endif
    const std::string &code() const noexcept { return code_; }
    const std::string &found() const noexcept { return found_; }
    const std::string &expected() const noexcept { return expected_; }
    const std::string &fix() const noexcept { return fix_; }

  private:
    error(const char *code, const char *reason, const char *found, const char *expected, const char *fix)
        : std::runtime_error(std::string(code) + ": " + reason), code_(code), found_(found), expected_(expected),
          fix_(fix) {}
    std::string code_, found_, expected_, fix_;
};

#endif

/* ---- the host ---- */

/* A named patch point. Lives as long as anybody may call it: a static. */
template <class Signature> class slot {
    using shape = detail::shape_of<Signature>;
    using Out = typename shape::out;

  public:
    /* Without a fallback: calls have the status `unresolved` until a module implements it. */
    constexpr explicit slot(const char *symbol) noexcept : raw_{symbol, nullptr, 0, 0} {}

    template <auto Function>
    constexpr slot(const char *symbol, detail::function_tag<Function>) noexcept
        : raw_{symbol, detail::entry<Function>, 0, 0} {
        using Given = typename detail::signature_of<decltype(Function)>::type;
        static_assert(detail::same_shape<Signature, Given>, "the fallback has another type than the slot");
    }

    slot(const slot &) = delete; /* the shim knows its address */
    slot &operator=(const slot &) = delete;

    const char *symbol() const noexcept { return raw_.symbol; }
    /* For the C API. */
    hr_slot *raw() noexcept { return &raw_; }

    /* Makes the slot known to modules and to `hotreload watch`. Do it for all slots at the start. */
    hr_status try_declare(hr_runtime *runtime = nullptr, hr_failure *failure = nullptr) noexcept {
        const hr_status found = hr_declare(runtime, &raw_);
        if (found != HR_OK) return found;
        /* What is known of its types; a module that was compiled with another idea of them is refused (E-LAYOUT). */
        const hr_layout_entry_v1 entry = shape::layout(raw_.symbol);
        const hr_layout_v1 layout = {HR_LAYOUT_MAGIC_V1,   HR_LAYOUT_VERSION_V1, sizeof(hr_layout_v1), 0, 1, nullptr,
                                     &entry};
        return hr_declare_layout(runtime, &layout, failure);
    }

    /* Calls what the slot runs now. The arguments are the signature's; the result, if it has one, goes to *out. */
    template <class... Arguments> [[nodiscard]] hotreload::status call(Out *out, Arguments &&...arguments) noexcept {
        return through(detail::slot_call{&raw_}, out, arguments...);
    }

#if defined(__cpp_exceptions)
    /* Throws hotreload::error: the symbol is taken, or no valid name, or its types contradict what is known of them. */
    void declare(hr_runtime *runtime = nullptr) {
        hr_failure failure{};
        const hr_status found = try_declare(runtime, &failure);
#ifndef HOTRELOAD_OFF
        if (found != HR_OK && failure.status != HR_OK) throw error(failure);
        if (found != HR_OK) throw error(found);
#else
        (void)found;
#endif
    }

#endif

#ifndef HOTRELOAD_OFF
    /* Tells the guard that nobody else uses a call's state while it lasts: it is copied before each guarded call, and
     * restored when that crashes or hangs. After declare. Copied byte by byte: a trivially copyable state that owns
     * nothing through pointers. HR_E_NO_SLOT, HR_E_USAGE, HR_E_MEMORY: see hr_guard_state. */
    hr_status try_guard_state() noexcept {
        using State = typename shape::state;
        static_assert(!std::is_void_v<State>, "this slot has no state");
        if constexpr (!std::is_void_v<State>) {
            static_assert(std::is_trivially_copyable_v<State>, "only a trivially copyable state can be restored");
            static_assert(sizeof(State) <= HR_GUARD_STATE_MAX, "the state is larger than what the guard copies");
            return hr_guard_state(&raw_, static_cast<uint32_t>(sizeof(State)));
        }
    }
#else
    hr_status try_guard_state() noexcept { return HR_OK; }
#endif

#if defined(__cpp_exceptions)
    /* The same; throws hotreload::error. */
    void guard_state() {
        const hr_status found = try_guard_state();
#ifndef HOTRELOAD_OFF
        if (found != HR_OK) throw error(found);
#else
        (void)found;
#endif
    }

    /* Throws hotreload::call_failed when the status is not 0, unless the slot's functions return a status. */
    template <class... Arguments> auto operator()(Arguments &&...arguments) {
        return result(detail::slot_call{&raw_}, arguments...);
    }
#endif

  private:
    friend class frame;

    template <class Call, class... Arguments>
    static hotreload::status through(Call call, void *out, Arguments &...arguments) {
        constexpr std::size_t wanted = !std::is_void_v<typename shape::state> + !std::is_void_v<typename shape::in>;
        static_assert(sizeof...(Arguments) == wanted, "the slot's functions take another number of arguments");
        return static_cast<hotreload::status>(split(call, out, arguments...));
    }

    template <class Call> static int32_t split(Call call, void *out) { return call(nullptr, nullptr, out); }
    template <class Call, class One> static int32_t split(Call call, void *out, One &one) {
        if constexpr (std::is_void_v<typename shape::state>) return with_input(call, nullptr, one, out);
        else return call(state_of(one), nullptr, out);
    }
    template <class Call, class One, class Two> static int32_t split(Call call, void *out, One &one, Two &two) {
        return with_input(call, state_of(one), two, out);
    }

    template <class Given> static void *state_of(Given &given) {
        static_assert(std::is_same_v<Given, typename shape::state>, "the state is of another type, or const");
        return &given;
    }

    template <class Call, class Given> static int32_t with_input(Call call, void *state, Given &given, void *out) {
        using In = typename shape::in;
        if constexpr (std::is_same_v<detail::plain<Given>, In>) {
            return call(state, &given, out);
        } else {
            const In converted(static_cast<In>(given)); /* a narrowing that a plain call would make as well */
            return call(state, &converted, out);
        }
    }

#if defined(__cpp_exceptions)
    template <class Call, class... Arguments> auto result(Call call, Arguments &...arguments) {
        if constexpr (shape::has_status) {
            return through(call, nullptr, arguments...);
        } else if constexpr (std::is_void_v<Out>) {
            check(through(call, nullptr, arguments...));
        } else {
            Out out{};
            check(through(call, &out, arguments...));
            return out;
        }
    }

    void check(hotreload::status found) {
        if (HR_UNLIKELY(found != hotreload::status::ok)) throw call_failed(raw_.symbol, found);
    }
#endif

    hr_slot raw_;
};

/* One generation, pinned for this thread until the end of the block: tick(slot, arguments...) calls through it. A frame
 * neither leaves its thread nor outlives the frames around it, so it can be neither copied, moved nor made by new. */
class [[nodiscard]] frame {
  public:
    [[nodiscard]] frame() noexcept : raw_(hr_frame_begin()) {}
    ~frame() { hr_frame_end(&raw_); }
    frame(const frame &) = delete;
    frame &operator=(const frame &) = delete;
    static void *operator new(std::size_t) = delete;
    static void *operator new[](std::size_t) = delete;

    template <class Signature, class... Arguments>
    [[nodiscard]] hotreload::status call(slot<Signature> &called, typename slot<Signature>::Out *out,
                                         Arguments &&...arguments) noexcept {
        return slot<Signature>::through(detail::frame_call{&raw_, &called.raw_}, out, arguments...);
    }

#if defined(__cpp_exceptions)
    template <class Signature, class... Arguments> auto operator()(slot<Signature> &called, Arguments &&...arguments) {
        return called.result(detail::frame_call{&raw_, &called.raw_}, arguments...);
    }
#endif

  private:
    hr_frame raw_;
};

#if defined(__cpp_exceptions)
/* Lets `hotreload watch` find and drive this process. flags: HR_SERVE_*. Throws hotreload::error. */
inline void serve(const char *name, uint32_t flags = 0, hr_runtime *runtime = nullptr) {
#ifndef HOTRELOAD_OFF
    hr_failure failure{};
    if (hr_serve(runtime, name, flags, &failure) != HR_OK) throw error(failure);
#else
    (void)name, (void)flags, (void)runtime;
#endif
}
#endif

/* ---- modules ---- */

namespace detail {

struct patched {
    hr_patch_entry_v1 entry;
    hr_layout_entry_v1 layout;
};

template <class Line, std::size_t Count> struct lines {
    Line line[Count];
};
template <std::size_t Count> constexpr lines<hr_patch_entry_v1, Count> entries_of(const patched (&all)[Count]) {
    lines<hr_patch_entry_v1, Count> made{};
    for (std::size_t i = 0; i < Count; i++) made.line[i] = all[i].entry;
    return made;
}
template <std::size_t Count> constexpr lines<hr_layout_entry_v1, Count> layouts_of(const patched (&all)[Count]) {
    lines<hr_layout_entry_v1, Count> made{};
    for (std::size_t i = 0; i < Count; i++) made.line[i] = all[i].layout;
    return made;
}

} // namespace detail

/* A function as the implementation of a slot, for HOTRELOAD_MODULE. */
template <auto Function> constexpr detail::patched patch(const char *symbol) {
    using Shape = detail::shape_of<typename detail::signature_of<decltype(Function)>::type>;
    return {{symbol, detail::entry<Function>, 0, 0}, Shape::layout(symbol)};
}

} // namespace hotreload

/* Exports a module: its name, its version (a number of the author's choosing), then hotreload::patch<...>("symbol") for
 * each slot. Its layouts go with it. Once in a module. */
#define HOTRELOAD_MODULE(name, version, ...)                                                                           \
    static constexpr hotreload::detail::patched hr_module_patched[] = {__VA_ARGS__};                                   \
    static constexpr auto hr_module_entries = hotreload::detail::entries_of(hr_module_patched);                        \
    static constexpr auto hr_module_layouts = hotreload::detail::layouts_of(hr_module_patched);                        \
    static constexpr const hr_layout_type_v1 *hr_module_types[] = {nullptr};                                           \
    HR_MODULE_EXPORT const hr_patch_module_v1 HOTPATCH_MODULE_V1 = {                                                   \
        HR_ABI_MAGIC_V1, HR_ABI_VERSION_V1, sizeof(hr_patch_module_v1), (version), (name),                             \
        sizeof hr_module_entries / sizeof(hr_patch_entry_v1), 0, hr_module_entries.line, nullptr, nullptr,             \
    };                                                                                                                 \
    HR_MODULE_EXPORT const hr_layout_v1 HOTPATCH_LAYOUT_V1 = {                                                         \
        HR_LAYOUT_MAGIC_V1, HR_LAYOUT_VERSION_V1, sizeof(hr_layout_v1), 0,                                             \
        sizeof hr_module_layouts / sizeof(hr_layout_entry_v1), hr_module_types, hr_module_layouts.line,                \
    };

/* Describes a struct of the global namespace, as HR_LAYOUT (describe.h) does, for slots and modules that have it. */
#define HOTRELOAD_LAYOUT(type, fields)                                                                                 \
    HR_LAYOUT(type, fields)                                                                                            \
    template <> struct hotreload::described<type> {                                                                    \
        static constexpr const hr_layout_type_v1 *layout = &hr_layout_of_##type;                                       \
    };

#endif
