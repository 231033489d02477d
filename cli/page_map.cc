#include "cli/page_map.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "base/units.h"
#include "cli/page_map_layout.h"

namespace cli {
namespace {

using base::Format;

constexpr unsigned kNoColour = 0;

// Fills are of the palettes of Okabe and Ito and of Tol, which colour-blind people tell apart. A usage has a
// hue; what is not resident of it is darker or lighter.
struct Style {
  PageLook look;
  const char* name;
  char glyph;
  const char* fill;
  unsigned background;  // of the 256 colours
  unsigned ink;
};

// In the order of the legend, which is that of kLooksByInterest.
constexpr std::array<Style, kPageLooks> kStyles = {{
    {PageLook::kModified, "modified", 'M', "#d55e00", 166, 16},
    {PageLook::kShared, "shared", 'S', "#cc79a7", 175, 16},
    {PageLook::kSwapped, "swapped", 's', "#332288", 54, 231},
    {PageLook::kVz, "Vz: volatile, zero (discarded)", 'v', "#882255", 89, 231},
    {PageLook::kPr, "Pr: potentially volatile, resident", 'P', "#e69f00", 178, 16},
    {PageLook::kVr, "Vr: volatile, resident", 'V', "#009e73", 36, 16},
    {PageLook::kSp, "Sp: stable, preserved", '%', "#003f5c", 17, 231},
    {PageLook::kSr, "Sr: stable, resident", '#', "#0072b2", 31, 231},
    {PageLook::kSz, "Sz: stable, zero", '-', "#a6cee3", 152, 16},
    {PageLook::kClean, "clean", 'c', "#56b4e9", 75, 16},
    {PageLook::kZero, "zero", '0', "#f0e442", 221, 16},
    {PageLook::kUr, "Ur: unused, resident", 'U', "#777777", 243, 231},
    {PageLook::kUz, "Uz: unused, zero", 'u', "#bbbbbb", 250, 16},
    {PageLook::kAbsent, "absent", '.', "#eeeeee", kNoColour, kNoColour},
}};

static_assert(std::ranges::equal(kStyles, kLooksByInterest, {}, &Style::look));

constexpr std::array<size_t, kPageLooks> kStyleOf = [] {
  std::array<size_t, kPageLooks> indices{};
  for (size_t i = 0; i < kPageLooks; ++i) indices[Index(kStyles[i].look)] = i;
  return indices;
}();

const Style& StyleOf(PageLook look) { return kStyles[kStyleOf[Index(look)]]; }

unsigned long long Big(uint64_t value) { return value; }

std::string Bytes(uint64_t pages) { return base::FormatSize(pages * base::kPageSize); }

// ---- words ----

// Controls, what turns the direction of writing or ends a line, and what XML cannot have.
bool IsShowable(char32_t c) {
  const bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
  const bool direction = c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
                         (c >= 0x2066 && c <= 0x2069);
  return !control && !direction && c != 0xfeff && (c & 0xfffe) != 0xfffe;
}

// The length of the UTF-8 character that `text` begins with, 0 if it is none or cannot be shown.
size_t CharacterLength(std::string_view text) {
  const auto front = static_cast<unsigned char>(text.front());
  size_t length = 1;
  if (front >= 0x80) length = front >= 0xf0 ? 4 : front >= 0xe0 ? 3 : 2;
  if ((front >= 0x80 && front < 0xc2) || front > 0xf4 || text.size() < length) return 0;
  char32_t c = length == 1 ? front : front & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0) != 0x80) return 0;
    c = c << 6 | (next & 0x3f);
  }
  constexpr char32_t kLowest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = c >= 0xd800 && c < 0xe000;
  return c < kLowest[length] || surrogate || c > 0x10ffff || !IsShowable(c) ? 0 : length;
}

// base::Printable leaves what is not UTF-8 as it is, which XML cannot have.
std::string Showable(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t length = CharacterLength(bytes);
    if (length == 0) {
      text += Format("\\x%02x", static_cast<unsigned char>(bytes.front()));
    } else {
      text += bytes.substr(0, length);
    }
    bytes.remove_prefix(std::max<size_t>(length, 1));
  }
  return text;
}

bool StartsCharacter(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }

size_t WidthOf(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), StartsCharacter));
}

// The middle of a longer text is left out.
std::string Shortened(const std::string& text, size_t width_max) {
  const size_t width = WidthOf(text);
  if (width <= width_max) return text;
  const size_t tail = (width_max - 3) / 2;
  const size_t head = width_max - 3 - tail;
  std::string shortened;
  size_t position = 0;  // of the next character
  for (const char byte : text) {
    if (StartsCharacter(byte)) {
      if (position == head) shortened += "...";
      ++position;
    }
    if (position <= head || position > width - tail) shortened += byte;
  }
  return shortened;
}

// At most four characters: "64M", "1.5G".
std::string ShortSize(uint64_t pages) {
  auto number = static_cast<double>(pages) * 4;
  const char* unit = "KMGTPE";
  for (; number >= 999.5; number /= 1024) ++unit;
  return Format(number < 9.95 ? "%.1f%c" : "%.0f%c", number, *unit);
}

// "one cell is 64 KiB (16 pages)"
std::string Scale(uint64_t cell_pages) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  uint64_t number = cell_pages * 4;
  size_t unit = 0;
  for (; number >= 1024; number /= 1024) ++unit;
  return Format("one cell is %llu %s", Big(number), kUnits[unit]) +
         (cell_pages == 1 ? "" : " (" + PageCount(cell_pages) + ")");
}

uint64_t AddressOf(const PictureRow& row, uint64_t page) { return row.start + page * base::kPageSize; }

// The address with which a line after the first begins; "" where there are none.
std::string LineAddress(const PictureRow& row, size_t line) {
  if (row.joined || line == 0) return "";
  return Format("%llx", Big(AddressOf(row, row.lines[line].front().block.first)));
}

// What the legend says below its counts. `shade` ends what it says of a cell of several looks.
std::vector<std::string> Remarks(const Picture& picture, const std::string& shade) {
  std::vector<std::string> remarks;
  if (picture.cell_pages > 1)
    remarks.push_back("A cell shows the first of these looks that it has" + shade + ".");
  if (picture.folded_pages > 0) {
    remarks.push_back("A size: absent pages that are not drawn, " + Bytes(picture.folded_pages) + " in all.");
  }
  return remarks;
}

Strips ShowableStrips(const PageMap& map, size_t rows_max) {
  Strips strips = MakeStrips(map.rows, rows_max);
  for (Strip& strip : strips.strips) strip.name = Showable(strip.name);
  return strips;
}

// ---- text ----

constexpr size_t kTextRows = 32;
constexpr uint64_t kTextLines = 32;
constexpr uint64_t kTextFoldCells = 6;
constexpr unsigned kColumnsMin = 40;
constexpr unsigned kColumnsMax = 400;
constexpr size_t kAddressWidth = 14;  // of a user's address, two columns in

std::string Coloured(const std::string& text, PageLook look, bool colour) {
  const Style& style = StyleOf(look);
  if (!colour || style.background == kNoColour) return text;
  return Format("\x1b[38;5;%u;48;5;%um", style.ink, style.background) + text + "\x1b[0m";
}

std::string TextPiece(const Piece& piece, bool colour) {
  if (piece.fold) return Format("<%4s>", ShortSize(piece.block.pages).c_str());
  return Coloured(std::string(piece.block.cells, StyleOf(piece.block.look).glyph), piece.block.look, colour);
}

std::string TextRow(const PictureRow& row, size_t name_width, bool colour) {
  std::string text;
  for (size_t i = 0; i < row.lines.size(); ++i) {
    std::string line = Shortened(i == 0 ? row.name : "  " + LineAddress(row, i), name_width);
    if (!row.lines[i].empty()) line += std::string(name_width + 1 - WidthOf(line), ' ');
    for (const Piece& piece : row.lines[i]) line += TextPiece(piece, colour);
    text += line + "\n";
  }
  return text;
}

std::string TextLegend(const Picture& picture, bool colour) {
  size_t name_width = 0;
  size_t count_width = 0;
  for (const Style& style : kStyles) {
    const uint64_t count = picture.counts[Index(style.look)];
    if (count == 0) continue;
    name_width = std::max(name_width, std::string_view(style.name).size());
    count_width = std::max(count_width, PageCount(count).size());
  }
  std::string text;
  for (const Style& style : kStyles) {
    const uint64_t count = picture.counts[Index(style.look)];
    if (count == 0) continue;
    text += Coloured(std::string(1, style.glyph), style.look, colour);
    text += Format(" %-*s  %*s  %10s\n", static_cast<int>(name_width), style.name,
                   static_cast<int>(count_width), PageCount(count).c_str(), Bytes(count).c_str());
  }
  for (const std::string& remark : Remarks(picture, "")) text += remark + "\n";
  return text;
}

// ---- SVG ----

constexpr size_t kSvgRows = 128;
constexpr Sizes kSvgSizes = {.line_cells = 64, .cells_max = 4096, .fold_cells = 3};
constexpr unsigned kCell = 12;  // wide
constexpr unsigned kCellHeight = 14;
constexpr unsigned kLine = 16;     // from line to line
constexpr unsigned kRowSpace = 3;  // and more from row to row
constexpr unsigned kMargin = 16;
constexpr size_t kNameWidth = 44;  // characters
constexpr unsigned kCellsLeft = 350;
constexpr unsigned kWidth = kCellsLeft + 64 * kCell + kMargin;
constexpr size_t kTitleWidth = 90;
constexpr size_t kTooltipWidth = 256;  // characters of a name
constexpr size_t kTooltipLooks = 3;
constexpr const char* kOpacity[] = {".35", ".5", ".65", ".8", "1"};

std::string Xml(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&#39;"; break;
      default: escaped += c;
    }
  }
  return escaped;
}

std::string SvgText(unsigned x, unsigned y, const std::string& text, const std::string& attributes = "") {
  return Format("<text x=\"%u\" y=\"%u\"%s>", x, y, attributes.c_str()) + Xml(text) + "</text>\n";
}

// "0x1000-0x3000: 2 pages: 1 modified, 1 clean", with the first looks of many.
std::string Tooltip(const PictureRow& row, const Block& block) {
  std::string text;
  if (!row.joined) {
    text = Format("0x%llx-0x%llx: ", Big(AddressOf(row, block.first)),
                  Big(AddressOf(row, block.first + block.pages)));
  }
  text += PageCount(block.pages);
  if (IsUniform(block)) return text + ", " + StyleOf(block.look).name;
  size_t looks = 0;  // by their short names
  for (const Style& style : kStyles) {
    const uint64_t count = block.counts[Index(style.look)];
    if (count == 0) continue;
    if (++looks > kTooltipLooks) return text + ", ...";
    const std::string_view name = style.name;
    text +=
        Format("%s %llu ", looks == 1 ? ":" : ",", Big(count)) + std::string(name.substr(0, name.find(':')));
  }
  return text;
}

// The cells of a picture, the lines between them, and the folds, which are above those lines.
struct Drawing {
  std::string names;
  std::string cells;
  std::string folds;
};

void DrawPiece(Drawing& drawing, const PictureRow& row, const Piece& piece, unsigned y) {
  const auto x = static_cast<unsigned>(kCellsLeft + piece.column * kCell);
  const std::string title = "<title>" + Xml(Tooltip(row, piece.block)) + "</title>";
  if (piece.fold) {
    const auto width = static_cast<unsigned>(kSvgSizes.fold_cells * kCell);
    drawing.folds += Format("<g>%s<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"#fff\"/>\n",
                            title.c_str(), x, y, width, kCellHeight);
    drawing.folds += SvgText(x + width / 2, y + 11, ShortSize(piece.block.pages),
                             R"( text-anchor="middle" font-size="11" font-style="italic")");
    drawing.folds += "</g>\n";
    return;
  }
  drawing.cells +=
      Format("<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"", x, y,
             static_cast<unsigned>(piece.block.cells * kCell), kCellHeight, StyleOf(piece.block.look).fill);
  if (piece.shade < 4) drawing.cells += Format(" fill-opacity=\"%s\"", kOpacity[piece.shade]);
  drawing.cells += ">" + title + "</rect>\n";
}

// Draws a row from y on; the y below it.
unsigned DrawRow(Drawing& drawing, const PictureRow& row, unsigned y) {
  const std::string title = "<title>" + Xml(Shortened(row.name, kTooltipWidth)) + "</title>";
  drawing.names += Format("<text x=\"%u\" y=\"%u\">", kMargin, y + 11) + title +
                   Xml(Shortened(row.name, kNameWidth)) + "</text>\n";
  for (size_t i = 0; i < row.lines.size(); ++i) {
    if (i > 0) drawing.names += SvgText(kMargin + kCell, y + 11, LineAddress(row, i), R"( fill="#595959")");
    for (const Piece& piece : row.lines[i]) DrawPiece(drawing, row, piece, y);
    y += kLine;
  }
  return y + kRowSpace;
}

// Draws the legend from y on; the y below it.
unsigned DrawLegend(std::string& text, const Picture& picture, unsigned y) {
  for (const Style& style : kStyles) {
    const uint64_t count = picture.counts[Index(style.look)];
    if (count == 0) continue;
    text += Format("<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"/>\n", kMargin, y, kCell,
                   kCellHeight, style.fill);
    text += SvgText(kMargin + 22, y + 11, style.name);
    text += SvgText(kCellsLeft + 100, y + 11, PageCount(count), R"( text-anchor="end")");
    text += SvgText(kCellsLeft + 200, y + 11, Bytes(count), R"( text-anchor="end")");
    y += kLine;
  }
  for (const std::string& remark : Remarks(picture, ", the paler the fewer of its pages look so")) {
    text += SvgText(kMargin, y + 11, remark);
    y += kLine;
  }
  return y;
}

}  // namespace

std::string MapSvg(const PageMap& map) {
  const Picture picture = Layout(ShowableStrips(map, kSvgRows), kSvgSizes);
  const std::string title = Showable(map.title);
  std::string head = SvgText(kMargin, 30, Shortened(title, kTitleWidth), R"( font-size="18")");
  head += SvgText(kMargin, 52, Scale(picture.cell_pages));
  const unsigned top = DrawLegend(head, picture, 64) + kLine;
  Drawing drawing;
  unsigned y = top;
  for (const PictureRow& row : picture.rows) y = DrawRow(drawing, row, y);
  const unsigned height = y + kMargin;

  std::string svg = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  svg += Format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" viewBox=\"0 0 %u %u\" width=\"%u\" "
      "height=\"%u\" role=\"img\" aria-labelledby=\"ckpt-map-title\" fill=\"#000\" font-size=\"12\" "
      "font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">\n",
      kWidth, height, kWidth, height);
  svg += "<title id=\"ckpt-map-title\">" + Xml(Shortened(title, kTooltipWidth)) + "</title>\n";
  svg += Format(
      "<defs><pattern id=\"ckpt-map-grid\" patternUnits=\"userSpaceOnUse\" x=\"%u\" y=\"0\" "
      "width=\"%u\" height=\"%u\"><rect x=\"%u\" width=\"1\" height=\"%u\" fill=\"#fff\"/></pattern>"
      "</defs>\n",
      kCellsLeft, kCell, kLine, kCell - 1, kLine);
  svg += Format("<rect width=\"%u\" height=\"%u\" fill=\"#fff\"/>\n", kWidth, height);
  svg += head + drawing.names + drawing.cells;
  svg += Format(
      "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"url(#ckpt-map-grid)\" "
      "pointer-events=\"none\"/>\n",
      kCellsLeft, top, kWidth - kCellsLeft - kMargin, y - top);
  return svg + drawing.folds + "</svg>\n";
}

std::string MapText(const PageMap& map, unsigned columns, bool colour) {
  columns = std::clamp(columns, kColumnsMin, kColumnsMax);
  const Strips strips = ShowableStrips(map, kTextRows);
  size_t name_width = kAddressWidth;
  for (const Strip& strip : strips.strips) name_width = std::max(name_width, WidthOf(strip.name));
  name_width = std::min<size_t>(name_width, columns * 2 / 5);
  const uint64_t line_cells = (columns - name_width - 1) / 8 * 8;
  const Picture picture = Layout(
      strips, {.line_cells = line_cells, .cells_max = kTextLines * line_cells, .fold_cells = kTextFoldCells});
  std::string text = Shortened(Showable(map.title), columns) + "\n" + Scale(picture.cell_pages) + "\n\n";
  for (const PictureRow& row : picture.rows) text += TextRow(row, name_width, colour);
  return text + "\n" + TextLegend(picture, colour);
}

}  // namespace cli
