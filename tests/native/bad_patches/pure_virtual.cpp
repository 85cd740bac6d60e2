/* Calls a pure virtual function, from a constructor. */
#include "bad.h"

struct Base {
    Base() { call(); }
    virtual ~Base() {}
    void call() { work(); }
    virtual void work() = 0;
};
struct Derived : Base {
    void work() override {}
};

static int32_t step(void *, const void *, void *) {
    Derived derived;
    return WORKS;
}

HR_MODULE("bad", 1, HR_PATCH("bad.step", step))
