#include "base/error.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace base {
namespace {

std::string FormatV(const char* format, va_list args) {
  va_list again;
  va_copy(again, args);
  const int length = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, args);
  return text;
}

}  // namespace

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kInvalid: return "EINVAL";
    case Code::kNotFound: return "ENOENT";
    case Code::kIo: return "EIO";
    case Code::kCorrupt: return "corrupt";
    case Code::kIncomplete: return "incomplete";
    case Code::kUnsupported: return "ENOSYS";
    case Code::kBusy: return "EBUSY";
    case Code::kWrongType: return "ENOMSG";
    case Code::kTooBig: return "E2BIG";
    case Code::kNoMemory: return "ENOMEM";
    case Code::kFault: return "EFAULT";
    case Code::kChanged: return "changed";
    case Code::kExpectation: return "expectation";
    case Code::kInterrupted: return "interrupted";
  }
  return "unknown";
}

Error Error::In(std::string_view where) const { return {code, std::string(where) + ": " + what}; }

std::unexpected<Error> Fail(Code code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string what = FormatV(format, args);
  va_end(args);
  return std::unexpected(Error{code, std::move(what)});
}

std::unexpected<Error> FailErrno(int error_number, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string what = FormatV(format, args);
  va_end(args);
  char buffer[128];
  what += ": ";
  what += strerror_r(error_number, buffer, sizeof buffer);
  return std::unexpected(Error{error_number == ENOENT ? Code::kNotFound : Code::kIo, std::move(what)});
}

std::string Format(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string text = FormatV(format, args);
  va_end(args);
  return text;
}

std::string Printable(std::string_view bytes, size_t length_max) {
  std::string text;
  const std::string_view shown = bytes.substr(0, length_max);
  bool c1 = false;  // the byte before was the first of a C1 control in UTF-8
  for (size_t i = 0; i < shown.size(); ++i) {
    const auto byte = static_cast<unsigned char>(shown[i]);
    const auto next = static_cast<unsigned char>(i + 1 < shown.size() ? shown[i + 1] : 0);
    const bool c1_start = byte == 0xc2 && next >= 0x80 && next < 0xa0;
    if (byte < 0x20 || byte == 0x7f || c1_start || c1) {
      text += Format("\\x%02x", byte);
    } else {
      text += shown[i];
    }
    c1 = c1_start;
  }
  if (bytes.size() > length_max) text += "...";
  return text;
}

}  // namespace base
