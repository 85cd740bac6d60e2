/* Throws a C++ exception through the C interface. */
#include "bad.h"

#include <stdexcept>

static int32_t step(void *, const void *, void *) { throw std::runtime_error("through the C interface"); }

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
