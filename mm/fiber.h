// Fiber: a stack of its own in the thread that resumes it (Boost.Context), known to AddressSanitizer.
//
// One thread, no preemption: a fiber runs until it suspends itself.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace mm {

class Fiber {
 public:
  // `body` starts at the first Resume(). It must not throw, and end only when the fiber may be destroyed.
  explicit Fiber(std::function<void()> body);
  // A fiber that did not end is given up with all that is on its stack, which stays where it is.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs the fiber until it suspends itself or ends. Requires: it has not ended; called from outside.
  void Resume();
  // Back to who resumed. Requires: called on this fiber.
  void Suspend();
  bool ended() const;

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace mm
