#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace base {
namespace {

constinit thread_local CheckHook t_hook = nullptr;

}  // namespace

void SetCheckHook(CheckHook hook) { t_hook = hook; }

void CheckFailed(const char* file, int line, const char* condition, const std::string& detail) {
  const std::string text = std::string(file) + ":" + std::to_string(line) + ": CHECK failed: " + condition +
                           (detail.empty() ? "" : ": ") + detail;
  if (t_hook != nullptr) t_hook(text);
  std::fprintf(stderr, "%s\n", text.c_str());
  std::abort();
}

}  // namespace base
