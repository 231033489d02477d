#include "mm/fiber.h"

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <utility>

#include "base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace mm {
namespace {

namespace ctx = boost::context;

// Room for a checkpoint's engine; only what is used is backed by memory.
constexpr size_t kStackBytes = size_t{512} << 10;

// What the sanitizers must be told when another stack is taken.
struct Stack {
  const void* bottom = nullptr;
  size_t size = 0;
  void* fake = nullptr;  // AddressSanitizer's own, of the side that waits
  void* tsan = nullptr;
};

#if defined(__SANITIZE_ADDRESS__)
void Leave(Stack* from, const Stack& to) {
  __sanitizer_start_switch_fiber(from == nullptr ? nullptr : &from->fake, to.bottom, to.size);
}
void Arrive(const Stack& here, Stack* from) {
  __sanitizer_finish_switch_fiber(here.fake, from == nullptr ? nullptr : &from->bottom,
                                  from == nullptr ? nullptr : &from->size);
}
#elif defined(__SANITIZE_THREAD__)
void Leave(Stack*, const Stack& to) { __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync); }
void Arrive(const Stack&, Stack*) {}
#else
void Leave(Stack*, const Stack&) {}
void Arrive(const Stack&, Stack*) {}
#endif

// Whether a fiber of this process was given up: what its frames point at is lost then, and no leak.
constinit bool g_given_up = false;

}  // namespace

#if defined(__SANITIZE_ADDRESS__)
// Asked at the end of the process.
extern "C" int __lsan_is_turned_off() { return g_given_up ? 1 : 0; }
#endif

struct Fiber::Context {
  std::function<void()> body;
  Stack own;
  Stack outside;
  ctx::fiber fiber;   // the suspended fiber
  ctx::fiber caller;  // who resumed it
  bool ended = false;
};

Fiber::Fiber(std::function<void()> body) : context_(std::make_unique<Context>()) {
  Context& context = *context_;
  context.body = std::move(body);
  ctx::protected_fixedsize_stack allocator(kStackBytes);
  const ctx::stack_context stack = allocator.allocate();
  context.own.size = stack.size;
  context.own.bottom = static_cast<const char*>(stack.sp) - stack.size;
#if defined(__SANITIZE_THREAD__)
  context.own.tsan = __tsan_create_fiber(0);
#endif
  context.fiber = ctx::fiber(std::allocator_arg, ctx::preallocated(stack.sp, stack.size, stack), allocator,
                             [&context](ctx::fiber&& caller) {
                               context.caller = std::move(caller);
                               Arrive(context.own, &context.outside);
                               context.body();
                               context.ended = true;
                               Leave(nullptr, context.outside);
                               return std::move(context.caller);
                             });
}

Fiber::~Fiber() {
  if (context_->ended) {
#if defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(context_->own.tsan);
#endif
    return;
  }
  // Not unwound: its frames' destructors would run in a world that is broken.
  (void)context_.release();
  g_given_up = true;
}

bool Fiber::ended() const { return context_->ended; }

void Fiber::Resume() {
  Context& context = *context_;
  CHECK(!context.ended);
#if defined(__SANITIZE_THREAD__)
  context.outside.tsan = __tsan_get_current_fiber();
#endif
  Leave(&context.outside, context.own);
  context.fiber = std::move(context.fiber).resume();
  Arrive(context.outside, nullptr);
}

void Fiber::Suspend() {
  Context& context = *context_;
  Leave(&context.own, context.outside);
  context.caller = std::move(context.caller).resume();
  Arrive(context.own, &context.outside);
}

}  // namespace mm
