/* The header that layout_host.c and its modules share. SHAPE selects the edit that a module was built with. */
#ifndef SHAPE_H
#define SHAPE_H

#include <hotreload/describe.h>

#ifndef SHAPE
#define SHAPE 0
#endif

#if SHAPE == 4 /* another unit for the nested struct */
#define POINT_FIELDS(F) F(Point, x, double) F(Point, y, double)
#else
#define POINT_FIELDS(F) F(Point, x, float) F(Point, y, float)
#endif
HR_STRUCT(Point, POINT_FIELDS)
HR_LAYOUT(Point, POINT_FIELDS)

#if SHAPE == 0 /* as in the host */
#define SHAPE_FIELDS(F) F(Shape, value, int32_t) F(Shape, at, Point) F(Shape, spare, hr_reserve, [16])
#elif SHAPE == 1 /* grows into the reserve */
#define SHAPE_FIELDS(F)                                                                                                \
    F(Shape, value, int32_t) F(Shape, at, Point) F(Shape, radius, float) F(Shape, spare, hr_reserve, [12])
#elif SHAPE == 2 /* grows in another way */
#define SHAPE_FIELDS(F)                                                                                                \
    F(Shape, value, int32_t) F(Shape, at, Point) F(Shape, sides, int32_t) F(Shape, spare, hr_reserve, [12])
#elif SHAPE == 3 /* a field in front */
#define SHAPE_FIELDS(F)                                                                                                \
    F(Shape, id, int64_t) F(Shape, value, int32_t) F(Shape, at, Point) F(Shape, spare, hr_reserve, [16])
#else
#define SHAPE_FIELDS(F) F(Shape, value, int32_t) F(Shape, at, Point) F(Shape, spare, hr_reserve, [16])
#endif
HR_STRUCT(Shape, SHAPE_FIELDS)
HR_LAYOUT(Shape, SHAPE_FIELDS)

#define SHAPE_TYPES HR_TYPE(Point)

/* As the host was built, for the migrations of SHAPE 3. */
#define HOST_FIELDS(F) F(HostShape, value, int32_t) F(HostShape, at, Point) F(HostShape, spare, hr_reserve, [16])
HR_STRUCT(HostShape, HOST_FIELDS)
HR_LAYOUT_AS(HostShape, "Shape", HOST_FIELDS)
HR_HOST_LAYOUT(host_layout, HR_TYPE(HostShape) HR_TYPE(Point), HR_TAKES("shape.tick", HostShape, void, void))

#endif
