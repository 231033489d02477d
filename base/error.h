// Failures as values: one code for each different reaction of a caller, and one line for people.
//
// A message says what was being done, to which file, where in it, and why it failed. A layer that
// knows more adds it in front with Error::In. Only cli/ prints.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace base {

enum class Code {
  kInvalid,      // The input breaks a rule of its format or of the call (EINVAL).
  kNotFound,     // A named thing is not there (ENOENT).
  kIo,           // The system failed to read or write (EIO, ENOSPC, EACCES, ...).
  kCorrupt,      // Stored bytes are not what was written: a checksum, a length, a reference.
  kIncomplete,   // An image that ends before its footer: an interrupted copy, not a damaged one.
  kUnsupported,  // Well formed, but outside what ckpt saves or restores (ENOSYS).
  kBusy,         // The target is not in a state that can be saved (EBUSY).
  kWrongType,    // A reference names an object of another type (ENOMSG).
  kTooBig,       // A value does not fit where it has to go (E2BIG).
  kNoMemory,     // The model ran out of frames, or a size is over its cap (ENOMEM).
  kFault,        // A page cannot be read or written at that address (EFAULT).
  kChanged,      // A file is not the one that was recorded.
  kExpectation,  // A workload step did not end as its `expect` says.
  kInterrupted,  // The user asked to stop.
};

// The errno-like name of a code ("EINVAL"), or its own ("corrupt") where errno has none.
std::string_view CodeName(Code code);

struct Error {
  Code code;
  std::string what;

  // The same error, said to have happened in `where`: "where: what".
  Error In(std::string_view where) const;
};

template <class T>
using Result = std::expected<T, Error>;

// printf-style construction, so that a message is one line at the place that knows the facts.
[[nodiscard]] std::unexpected<Error> Fail(Code code, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

// kIo with the text of `error_number` behind the words, kNotFound for ENOENT.
[[nodiscard]] std::unexpected<Error> FailErrno(int error_number, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

// snprintf into a string.
[[nodiscard]] std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The printable form of bytes that came from outside: control characters become \xNN, so that no
// input can write to a terminal, and a long one is cut with "...".
[[nodiscard]] std::string Printable(std::string_view bytes, size_t length_max = 256);

}  // namespace base

// TRY(expression): the value, or return its error from this function.
#define TRY(...)                                              \
  ({                                                          \
    auto try_result_ = (__VA_ARGS__);                         \
    if (!try_result_) [[unlikely]]                            \
      return std::unexpected(std::move(try_result_).error()); \
    *std::move(try_result_);                                  \
  })

// TRY for a Result<void>.
#define TRY_VOID(...)                                              \
  do {                                                             \
    auto try_void_result_ = (__VA_ARGS__);                         \
    if (!try_void_result_) [[unlikely]]                            \
      return std::unexpected(std::move(try_void_result_).error()); \
  } while (false)
