#include "base/units.h"

#include <charconv>

namespace base {

Result<uint64_t> ParseSize(std::string_view text) {
  const auto bad = [&] {
    return Fail(Code::kInvalid,
                "'%s' is not a size: write a number of bytes, or one with KiB, MiB, GiB or TiB",
                Printable(text).c_str());
  };
  std::string_view rest = text;
  int base = 10;
  if (rest.starts_with("0x")) {
    base = 16;
    rest.remove_prefix(2);
  }
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number, base);
  if (error != std::errc{} || end == rest.data()) return bad();
  std::string_view suffix = rest.substr(static_cast<size_t>(end - rest.data()));
  if (suffix.empty()) return number;
  if (suffix == "B") return number;

  static constexpr std::string_view kLetters = "kKmMgGtT";
  const size_t letter = kLetters.find(suffix.front());
  suffix.remove_prefix(1);
  if (letter == std::string_view::npos || (suffix != "" && suffix != "B" && suffix != "iB")) return bad();
  const unsigned shift = 10 * static_cast<unsigned>(letter / 2 + 1);
  if (number > (~uint64_t{0} >> shift)) return bad();
  return number << shift;
}

std::string FormatSize(uint64_t bytes) {
  static constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  uint64_t scale = 1;
  while (unit + 1 < std::size(kNames) && bytes / scale >= 1024) {
    scale *= 1024;
    ++unit;
  }
  if (unit == 0) return Format("%llu B", static_cast<unsigned long long>(bytes));
  double number = static_cast<double>(bytes) / static_cast<double>(scale);
  if (number >= 1023.95 && unit + 1 < std::size(kNames)) {  // would round to 1024.0
    number /= 1024;
    ++unit;
  }
  return Format("%.1f %s", number, kNames[unit]);
}

}  // namespace base
