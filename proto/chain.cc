#include "proto/chain.h"

#include <algorithm>
#include <cinttypes>
#include <filesystem>

#include "base/check.h"
#include "proto/format.h"
#include "proto/hash.h"
#include "proto/reader.h"

namespace image {
namespace {

using base::Code;
using base::Fail;
using ckpt_pb::PageRun;

base::Result<Link> MakeLink(const Reader& image) {
  Link link{.path = InputName(image.path()),
            .digest = image.digest(),
            .label = image.machine().label(),
            .totals = image.totals(),
            .file = image.file(),
            .chunks = {}};
  uint64_t next = image.metadata().parent.stored();
  TRY_VOID(image.ForEachChunk([&](const ckpt_pb::Chunk& chunk) -> base::Result<void> {
    uint64_t pages = 0;
    for (const PageRun& run : chunk.run()) pages += run.kind() == PageRun::STORED ? run.count() : 0;
    if (pages == 0) return {};
    link.chunks.push_back({.first = next,
                           .offset = chunk.offset(),
                           .xxh3 = chunk.xxh3(),
                           .frame_bytes = static_cast<uint32_t>(chunk.frame_bytes()),
                           .pages = static_cast<uint32_t>(pages),
                           .raw = chunk.raw()});
    next += pages;
    return {};
  }));
  return link;
}

std::string DigestOf(const ckpt_pb::Parent& parent) {
  DigestBytes bytes;
  std::ranges::copy(parent.digest(), bytes.begin());
  return Hex(bytes);
}

// What the footer says, without a look at the rest; empty where there is none.
std::string QuickDigest(const std::string& path) {
  const auto file = InputFile::Open(path);
  if (!file) return "";
  const auto ends = (*file)->ReadEnds();
  if (!ends) return "";
  const auto footer = DecodeFooter(ends->tail, (*file)->size(), kEnvelopeBytes);
  return footer ? Hex(footer->digest) : "";
}

// Where the parent of `child` is.
base::Result<std::string> FindParent(const std::string& child, const ckpt_pb::Parent& parent,
                                     std::span<const std::string> also) {
  namespace fs = std::filesystem;
  const std::string digest = DigestOf(parent);
  const fs::path folder = fs::path(child).parent_path();
  const fs::path hint(parent.path());
  std::vector<std::string> places = {(folder / hint).string(), (folder / hint.filename()).string()};
  places.insert(places.end(), also.begin(), also.end());
  std::string other;
  for (const std::string& place : places) {
    const std::string found = QuickDigest(place);
    if (found == digest) return place;
    std::error_code unknown;
    if (other.empty() && fs::exists(place, unknown) && &place < &places[2]) other = place;
  }
  if (!other.empty()) {
    const std::string found = QuickDigest(other);
    return Fail(Code::kChanged,
                "%s: its parent is the image of digest %s, and '%s' is %s%s: put it there, or name it to "
                "'ckpt merge'",
                child.c_str(), digest.c_str(), base::Printable(other).c_str(),
                found.empty() ? "no whole image" : "the one of digest ", found.c_str());
  }
  return Fail(
      Code::kNotFound,
      "%s: its parent '%s', the image of digest %s, is not there: put it there, or name it to 'ckpt merge'",
      child.c_str(), base::Printable(places.front()).c_str(), digest.c_str());
}

}  // namespace

base::Result<std::unique_ptr<Chain>> Chain::Open(const Reader& top, std::span<const std::string> also) {
  std::unique_ptr<Chain> chain(new Chain);
  chain->links_.push_back(TRY(MakeLink(top)));
  chain->firsts_.push_back(top.metadata().parent.stored());
  std::string child = top.path();
  ckpt_pb::Parent parent = top.metadata().parent;
  while (!parent.digest().empty()) {
    const std::string path = TRY(FindParent(child, parent, also));
    const std::unique_ptr<Reader> image = TRY(Reader::Open(path, {.parents = Parents::kLeave}));
    const ckpt_pb::Parent& next = image->metadata().parent;
    // The digest says all of this, but for one who makes up an image.
    if (image->digest() != DigestOf(parent) || next.stored() + image->stored_pages() != parent.stored() ||
        next.depth() + 1 != parent.depth()) {
      return Fail(Code::kChanged, "%s: what it says of its parent '%s' is not so", child.c_str(),
                  base::Printable(path).c_str());
    }
    chain->links_.push_back(TRY(MakeLink(*image)));
    chain->firsts_.push_back(next.stored());
    child = path;
    parent = next;
  }
  std::ranges::reverse(chain->links_);
  std::ranges::reverse(chain->firsts_);
  return chain;
}

Chain::Place Chain::Find(uint64_t number) const {
  // Of images that store nothing several have the same first number: the last one is the one that has it.
  const auto behind = std::ranges::upper_bound(firsts_, number);
  CHECK(behind != firsts_.begin());
  const Link& link = links_[static_cast<size_t>(behind - firsts_.begin()) - 1];
  const auto chunk = std::ranges::upper_bound(link.chunks, number, {}, &StoredChunk::first);
  CHECK(chunk != link.chunks.begin());
  const StoredChunk& found = *std::prev(chunk);
  CHECK(number - found.first < found.pages);
  return {&link, &found};
}

}  // namespace image
