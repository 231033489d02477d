#include "workload/fill.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/units.h"
#include "workload/script.h"

namespace workload {
namespace {

std::unique_ptr<mm::Content> Generator(const char* name, const ckpt_pb::Fill::Seeded& seeded, uint64_t seed) {
  mm::Recipe recipe;
  recipe.kind = mm::Recipe::Kind::kGenerated;
  recipe.size = uint64_t{1} << 60;
  recipe.generator = name;
  recipe.seed = seeded.has_seed() ? seeded.seed() : seed;
  base::Result<mm::OpenedContent> opened = mm::OpenContent(recipe);
  CHECK(opened.has_value());
  return std::move(opened->content);
}

}  // namespace

Filler::Filler(const ckpt_pb::Fill& fill, uint64_t seed, uint64_t origin)
    : shift_(SizeOr(fill.shift(), 0)), origin_(origin), page_index_(~uint64_t{0}) {
  switch (fill.kind_case()) {
    case ckpt_pb::Fill::KIND_NOT_SET:
    case ckpt_pb::Fill::kRandom: generator_ = Generator("random", fill.random(), seed); break;
    case ckpt_pb::Fill::kText: generator_ = Generator("text", fill.text(), seed); break;
    case ckpt_pb::Fill::kCounter: generator_ = Generator("counter", fill.counter(), seed); break;
    case ckpt_pb::Fill::kZeros: repeat_ = std::string(1, '\0'); break;
    case ckpt_pb::Fill::kByte: repeat_ = std::string(1, static_cast<char>(fill.byte())); break;
    case ckpt_pb::Fill::kRepeat: repeat_ = fill.repeat(); break;
  }
}

void Filler::Make(uint64_t position, std::span<std::byte> out) {
  if (generator_ != nullptr) return MakeGenerated(position + shift_, out);
  if (repeat_.size() == 1) {
    std::memset(out.data(), repeat_.front(), out.size());
    return;
  }
  size_t at = (position - origin_ + shift_) % repeat_.size();
  for (std::byte& byte : out) {
    byte = static_cast<std::byte>(repeat_[at]);
    if (++at == repeat_.size()) at = 0;
  }
}

void Filler::MakeGenerated(uint64_t position, std::span<std::byte> out) {
  while (!out.empty()) {
    const uint64_t index = position / base::kPageSize;
    const size_t in_page = position % base::kPageSize;
    const size_t piece = std::min(base::kPageSize - in_page, out.size());
    if (index != page_index_) {
      CHECK(generator_->ReadPage(index, page_).has_value());
      page_index_ = index;
    }
    std::memcpy(out.data(), page_.data() + in_page, piece);
    out = out.subspan(piece);
    position += piece;
  }
}

}  // namespace workload
