// CHECK: a broken invariant of the program itself. It stays on in release builds and ends the
// process with the place, the condition and what the caller adds. Bad input is never a CHECK: it is
// a base::Error (error.h).
#pragma once

#include <string>

namespace base {

// Writes "file:line: CHECK failed: condition: detail" to standard error and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              const std::string& detail = {});

// Set by who can go on after a CHECK that failed in code which it runs (the search of mm/explore.h): called
// with the line instead of the end of the process. It must not return. Of this thread; nullptr: none.
using CheckHook = void (*)(const std::string& line);
void SetCheckHook(CheckHook hook);

}  // namespace base

#define CHECK(condition)                                   \
  do {                                                     \
    if (!(condition)) [[unlikely]]                         \
      ::base::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

// CHECK with words that say what was found. `detail` is only evaluated on failure.
#define CHECK_MSG(condition, detail)                                 \
  do {                                                               \
    if (!(condition)) [[unlikely]]                                   \
      ::base::CheckFailed(__FILE__, __LINE__, #condition, (detail)); \
  } while (false)
