/* Macros that describe structs, for hosts and modules alike (hotreload.h and patch.h include this file).
 *
 * List the fields once, in a header that both sides include. The list can make the struct as well:
 *
 *     #define VOICE_FIELDS(F)                 F(struct, field, type) and, for an array, its bounds
 *         F(Voice, phase, float)
 *         F(Voice, taps, float, [16])
 *         F(Voice, next, Voice *)
 *         F(Voice, spare, hr_reserve, [52])   room for later fields
 *     HR_STRUCT(Voice, VOICE_FIELDS)          typedef struct Voice { float phase; ... } Voice;
 *     HR_LAYOUT(Voice, VOICE_FIELDS)          its description
 *
 * In the host:    HR_HOST_LAYOUT(layout, HR_TYPE(Envelope), HR_TAKES("synth.tick", Voice, Note, void))
 *                 hr_declare_layout(NULL, &layout, NULL);
 * In the module:  HR_MODULE_LAYOUT(HR_TYPE(Envelope), HR_TAKES("synth.tick", Voice, Note, void))
 *
 * HR_TAKES names the types of state, input and output: void where there is none, hr_unchecked where it is not told.
 * HR_TYPE names further types: those of fields. Several of either may follow each other, HR_TAKES with commas.
 *
 * A description cannot lie: the compiler compares every listed type with the field's own, and the list as a whole with
 * the struct (a field left out, or listed in another order, does not compile). Types of several words that do not end
 * in the field's place (pointers to functions) need a typedef. C++: standard-layout types. */
#ifndef HOTRELOAD_DESCRIBE_H
#define HOTRELOAD_DESCRIBE_H

#include "layout.h"

#ifdef __cplusplus
extern "C++" { /* instead of <type_traits>: this file brings nothing else into its user's */
template <class Left, class Right> struct hr_same {
    static constexpr bool value = false;
};
template <class Type> struct hr_same<Type, Type> {
    static constexpr bool value = true;
};
}
#define HR_STATIC_ASSERT(condition, text) static_assert(condition, text)
#define HR_ALIGN_OF(type) alignof(type)
#define HR_SAME_TYPE(owner, field, ...) hr_same<decltype(owner::field), __VA_ARGS__>::value
/* HR_NUMBER_* of a type; of an enum and of everything else 0. */
extern "C++" {
template <class Type> struct hr_number { static constexpr uint32_t value = 0; };
template <> struct hr_number<bool> { static constexpr uint32_t value = HR_NUMBER_BOOL; };
template <> struct hr_number<char> { static constexpr uint32_t value = HR_NUMBER_CHAR; };
template <> struct hr_number<signed char> { static constexpr uint32_t value = HR_NUMBER_I8; };
template <> struct hr_number<unsigned char> { static constexpr uint32_t value = HR_NUMBER_U8; };
template <> struct hr_number<short> { static constexpr uint32_t value = HR_NUMBER_I16; };
template <> struct hr_number<unsigned short> { static constexpr uint32_t value = HR_NUMBER_U16; };
template <> struct hr_number<int> { static constexpr uint32_t value = HR_NUMBER_I32; };
template <> struct hr_number<unsigned> { static constexpr uint32_t value = HR_NUMBER_U32; };
template <> struct hr_number<long> { static constexpr uint32_t value = HR_NUMBER_I64; };
template <> struct hr_number<unsigned long> { static constexpr uint32_t value = HR_NUMBER_U64; };
template <> struct hr_number<long long> { static constexpr uint32_t value = HR_NUMBER_I64; };
template <> struct hr_number<unsigned long long> { static constexpr uint32_t value = HR_NUMBER_U64; };
template <> struct hr_number<float> { static constexpr uint32_t value = HR_NUMBER_F32; };
template <> struct hr_number<double> { static constexpr uint32_t value = HR_NUMBER_F64; };
}
#define HR_NUMBER_OF(...) hr_number<__VA_ARGS__>::value
#define HR_STANDARD_LAYOUT(type)                                                                                       \
    HR_STATIC_ASSERT(__is_standard_layout(type), #type ": only standard-layout types have a fixed layout");
#else
#define HR_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#define HR_ALIGN_OF(type) _Alignof(type)
#define HR_SAME_TYPE(owner, field, ...)                                                                                \
    __builtin_types_compatible_p(__typeof__(((owner *)0)->field), __typeof__(__VA_ARGS__))
#define HR_NUMBER_OF(...)                                                                                              \
    _Generic(*(__VA_ARGS__ *)0, _Bool: HR_NUMBER_BOOL, char: HR_NUMBER_CHAR, signed char: HR_NUMBER_I8,                \
             unsigned char: HR_NUMBER_U8, short: HR_NUMBER_I16, unsigned short: HR_NUMBER_U16, int: HR_NUMBER_I32,     \
             unsigned: HR_NUMBER_U32, long: HR_NUMBER_I64, unsigned long: HR_NUMBER_U64, long long: HR_NUMBER_I64,     \
             unsigned long long: HR_NUMBER_U64, float: HR_NUMBER_F32, double: HR_NUMBER_F64, default: 0)
#define HR_STANDARD_LAYOUT(type)
#endif

#define HR_OFFSET_OF(owner, field) __builtin_offsetof(owner, field)
#define HR_QUIET __attribute__((unused))
#define HR_QUOTE_(...) #__VA_ARGS__
#define HR_QUOTE(...) HR_QUOTE_(__VA_ARGS__) /* bounds that are macros become numbers */

/* What a list is expanded with. The last arguments are an array's bounds, if there are any. */
#define HR_FIELD_OF_STRUCT(owner, field, ...) HR_FIELD_DECLARE_(field, __VA_ARGS__, , )
#define HR_FIELD_DECLARE_(field, type, bounds, ...) type field bounds;
#define HR_FIELD_DESCRIBED(owner, field, ...) HR_FIELD_DESCRIBE_(owner, field, __VA_ARGS__, , )
#define HR_FIELD_DESCRIBE_(owner, field, type, bounds, ...)                                                            \
    {#field, #type HR_QUOTE(bounds), 0, HR_OFFSET_OF(owner, field), sizeof(((owner *)0)->field), HR_NUMBER_OF(type), 0},
#define HR_FIELD_CHECKED(owner, field, ...) HR_FIELD_CHECK_(owner, field, __VA_ARGS__, , )
#define HR_FIELD_CHECK_(owner, field, type, bounds, ...)                                                               \
    HR_STATIC_ASSERT(HR_SAME_TYPE(owner, field, type bounds), #owner "." #field " is no " #type #bounds);
#define HR_FIELD_PLACED(owner, field, ...)                                                                             \
    HR_STATIC_ASSERT(HR_OFFSET_OF(owner, field) == HR_OFFSET_OF(struct hr_listed_##owner, field),                      \
                     #owner "." #field " is elsewhere in the struct than in the list of its fields");

/* Makes the struct from the list. */
#define HR_STRUCT(type, fields)                                                                                        \
    typedef struct type type;                                                                                          \
    struct type {                                                                                                      \
        fields(HR_FIELD_OF_STRUCT)                                                                                     \
    };

/* Describes a struct that lists all its fields, in order. */
#define HR_LAYOUT(type, fields) HR_LAYOUT_AS(type, #type, fields)

/* The same under another name: an old version of a struct, for a migration. */
#define HR_LAYOUT_AS(type, name, fields)                                                                               \
    struct hr_listed_##type {                                                                                          \
        fields(HR_FIELD_OF_STRUCT)                                                                                     \
    };                                                                                                                 \
    HR_STATIC_ASSERT(sizeof(type) == sizeof(struct hr_listed_##type), #type ": its list leaves some fields out");      \
    fields(HR_FIELD_PLACED)                                                                                            \
    HR_DESCRIBE(type, name, HR_TYPE_STRUCT, 0, fields)

/* Describes a union. */
#define HR_LAYOUT_UNION(type, fields)                                                                                  \
    union hr_listed_##type {                                                                                           \
        fields(HR_FIELD_OF_STRUCT)                                                                                     \
    };                                                                                                                 \
    HR_STATIC_ASSERT(sizeof(type) == sizeof(union hr_listed_##type), #type ": its list leaves some members out");      \
    HR_DESCRIBE(type, #type, HR_TYPE_UNION, 0, fields)

/* Describes some fields of a struct: of a packed one, or of one with bit-fields, which have no address. */
#define HR_LAYOUT_PARTIAL(type, fields) HR_DESCRIBE(type, #type, HR_TYPE_STRUCT, HR_TYPE_PARTIAL, fields)

#define HR_DESCRIBE(type, name, kind, flags, fields)                                                                   \
    HR_STANDARD_LAYOUT(type)                                                                                           \
    fields(HR_FIELD_CHECKED)                                                                                           \
    HR_QUIET static const hr_layout_field_v1 hr_fields_of_##type[] = {fields(HR_FIELD_DESCRIBED)};                     \
    HR_QUIET static const hr_layout_type_v1 hr_layout_of_##type = {                                                    \
        name, sizeof(type), HR_ALIGN_OF(type), kind, flags,                                                            \
        sizeof hr_fields_of_##type / sizeof hr_fields_of_##type[0], hr_fields_of_##type,                               \
    };

/* Describes an enum: #define WAVE_VALUES(V) V(WAVE_SINE) V(WAVE_SAW) */
#define HR_LAYOUT_ENUM(type, values)                                                                                   \
    HR_QUIET static const hr_layout_field_v1 hr_fields_of_##type[] = {values(HR_VALUE_DESCRIBED)};                     \
    HR_QUIET static const hr_layout_type_v1 hr_layout_of_##type = {                                                    \
        #type, sizeof(type), HR_ALIGN_OF(type), HR_TYPE_ENUM, 0,                                                       \
        sizeof hr_fields_of_##type / sizeof hr_fields_of_##type[0], hr_fields_of_##type,                               \
    };
#define HR_VALUE_DESCRIBED(value) {#value, "", 0, (uint64_t)(int64_t)(value), 0, 0, 0},

/* Describes a number, a pointer or a typedef of one that a slot takes as it is. */
#define HR_LAYOUT_SCALAR(type)                                                                                         \
    HR_QUIET static const hr_layout_type_v1 hr_layout_of_##type = {                                                    \
        #type, sizeof(type), HR_ALIGN_OF(type), HR_TYPE_SCALAR, 0, 0, 0};

#ifdef __cplusplus
HR_LAYOUT_SCALAR(bool)
#else
HR_QUIET static const hr_layout_type_v1 hr_layout_of_bool = {"bool", sizeof(_Bool), 1, HR_TYPE_SCALAR, 0, 0, 0};
#endif
HR_LAYOUT_SCALAR(float)
HR_LAYOUT_SCALAR(double)
HR_LAYOUT_SCALAR(char)
HR_LAYOUT_SCALAR(int)
HR_LAYOUT_SCALAR(int8_t)
HR_LAYOUT_SCALAR(int16_t)
HR_LAYOUT_SCALAR(int32_t)
HR_LAYOUT_SCALAR(int64_t)
HR_LAYOUT_SCALAR(uint8_t)
HR_LAYOUT_SCALAR(uint16_t)
HR_LAYOUT_SCALAR(uint32_t)
HR_LAYOUT_SCALAR(uint64_t)
HR_QUIET static const hr_layout_type_v1 hr_layout_of_size_t = {"size_t", 8, 8, HR_TYPE_SCALAR, 0, 0, 0};
HR_QUIET static const hr_layout_type_v1 hr_layout_of_void = {"void", 0, 1, HR_TYPE_VOID, 0, 0, 0};
HR_QUIET static const hr_layout_type_v1 hr_layout_of_hr_unchecked = {"", 0, 1, HR_TYPE_UNCHECKED, 0, 0, 0};

#define HR_TYPE(type) &hr_layout_of_##type,
#define HR_TAKES(symbol, state, input, output)                                                                         \
    { symbol, &hr_layout_of_##state, &hr_layout_of_##input, &hr_layout_of_##output }

#define HR_LAYOUT_INITIALIZER_(name)                                                                                   \
    {HR_LAYOUT_MAGIC_V1, HR_LAYOUT_VERSION_V1, sizeof(hr_layout_v1), sizeof name##_types / sizeof name##_types[0] - 1, \
     sizeof name##_entries / sizeof name##_entries[0], name##_types, name##_entries}

/* `types` holds commas once it is expanded: it cannot be handed on to another macro.
 * A description with a name: for hr_declare_layout, and for the two sides of a migration. */
#define HR_HOST_LAYOUT(name, types, ...)                                                                               \
    HR_QUIET static const hr_layout_type_v1 *const name##_types[] = {types 0};                                         \
    HR_QUIET static const hr_layout_entry_v1 name##_entries[] = {__VA_ARGS__};                                         \
    HR_QUIET static const hr_layout_v1 name = HR_LAYOUT_INITIALIZER_(name);

#endif
