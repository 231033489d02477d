// Pictures of memories: exact small ones, and what must hold for all of them.
#include "cli/page_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/page_map_layout.h"
#include "tests/cli/page_map_reader.h"

namespace cli_test {
namespace {

using cli::MapRow;
using cli::MapRun;
using cli::MapSvg;
using cli::MapText;
using cli::PageLook;
using cli::PageMap;
using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using enum cli::PageLook;
// As cli/page_map.h says.
constexpr PageLook kByInterest[] = {kModified, kShared, kSwapped, kVz,   kPr, kVr, kSp,
                                    kSr,       kSz,     kClean,   kZero, kUr, kUz, kAbsent};

PageMap OneRow(std::vector<MapRun> runs, uint64_t start = 0) {
  return {"t", {{.name = "row", .start = start, .runs = std::move(runs)}}};
}

// Every page is in one place of the SVG and in both legends, and nothing is drawn over something else.
void ExpectComplete(const PageMap& map) {
  uint64_t pages = 0;
  for (const MapRow& row : map.rows) {
    for (const MapRun& run : row.runs) pages += run.count;
  }
  EXPECT_EQ(LegendOfText(MapText(map, 100, false)), pages);
  const std::string svg = MapSvg(map);
  EXPECT_EQ(LegendOfSvg(svg), pages);
  std::vector<Drawn> drawn = Cells(svg);
  const std::vector<Drawn> folds = Folds(svg);
  EXPECT_EQ(PagesOf(drawn) + PagesOf(folds), pages);
  EXPECT_LE(CellCount(drawn) + CellCount(folds), 4096u);
  EXPECT_LT(svg.size(), 1u << 20);
  drawn.insert(drawn.end(), folds.begin(), folds.end());
  std::ranges::sort(drawn, {}, [](const Drawn& one) { return std::pair(one.y, one.x); });
  for (size_t i = 0; i < drawn.size(); ++i) {
    EXPECT_LE(drawn[i].x + drawn[i].width, 350u + 64 * 12) << "right of the picture";
    if (i == 0 || drawn[i - 1].y != drawn[i].y) {
      EXPECT_EQ(drawn[i].x, 350u) << "a line begins at the left";
    } else {
      EXPECT_EQ(drawn[i - 1].x + drawn[i - 1].width, drawn[i].x) << drawn[i].tooltip;
      EXPECT_NE(drawn[i - 1].fill + drawn[i - 1].opacity, drawn[i].fill + drawn[i].opacity)
          << "one rectangle for cells that look the same";
    }
  }
}

TEST(PageMapXml, TheCheckFindsWhatIsWrong) {
  const std::string head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  EXPECT_EQ(WrongXml(head + "<a b=\"c\"><d e=\"f\" g=\"\"/>x &lt; \xc3\xa4</a>\n"), "");
  for (const char* bad :
       {"", "<a>", "<a></b>", "<a/><a/>", "<a/>x", "<a>&</a>", "<a>&amp</a>", "<a>\x1b</a>", "<a>\xff</a>",
        "<a>\xc3</a>", "<a b=c/>", "<a b=\"1\" b=\"2\"/>", "<a b=\"<\"/>", "<a", "<a b=\"\"c\"/>", "</a>"}) {
    EXPECT_NE(WrongXml(head + bad), "") << bad;
  }
  EXPECT_NE(WrongXml("<a/>"), "");
}

// ---- text ----

TEST(PageMap, ASmallMemoryInText) {
  const PageMap map = {
      "base.img",
      {{"1 1000-b000 r-xp /bin/x", 0x1000, {{6, kClean}, {4, kAbsent}}},
       {"1 10000-18000 rw-p [heap]", 0x10000, {{3, kModified}, {1, kZero}, {1, kSwapped}, {3, kShared}}},
       {"1 20000-20000 ---p", 0x20000, {}}}};
  EXPECT_EQ(MapText(map, 80, false),
            "base.img\n"
            "one cell is 4 KiB\n"
            "\n"
            "1 1000-b000 r-xp /bin/x   cccccc....\n"
            "1 10000-18000 rw-p [heap] MMM0sSSS\n"
            "1 20000-20000 ---p\n"
            "\n"
            "M modified  3 pages    12.0 KiB\n"
            "S shared    3 pages    12.0 KiB\n"
            "s swapped    1 page     4.0 KiB\n"
            "c clean     6 pages    24.0 KiB\n"
            "0 zero       1 page     4.0 KiB\n"
            ". absent    4 pages    16.0 KiB\n");
}

TEST(PageMap, LongRowsGoOnWithTheirAddressAndGapsAreFolded) {
  // 64 columns: 14 of the name, 48 of cells.
  EXPECT_EQ(MapText(OneRow({{50, kClean}, {47, kAbsent}, {1, kModified}, {48, kAbsent}, {1, kShared}},
                           0x7f0000000000),
                    64, false),
            "t\n"
            "one cell is 4 KiB\n"
            "\n"
            "row            cccccccccccccccccccccccccccccccccccccccccccccccc\n"
            "  7f0000030000 cc..............................................\n"
            "  7f0000060000 .M<192K>S\n"
            "\n"
            "M modified    1 page     4.0 KiB\n"
            "S shared      1 page     4.0 KiB\n"
            "c clean     50 pages   200.0 KiB\n"
            ". absent    95 pages   380.0 KiB\n"
            "A size: absent pages that are not drawn, 192.0 KiB in all.\n");
}

TEST(PageMap, AFoldThatDoesNotFitBeginsALine) {
  const std::string text = MapText(OneRow({{43, kClean}, {1 << 20, kAbsent}, {2, kClean}}), 64, false);
  EXPECT_THAT(text, HasSubstr("row            " + std::string(43, 'c') + "\n  2b000        <4.0G>cc\n"));
}

TEST(PageMap, SizesOfFoldsHaveAtMostFourCharacters) {
  for (const auto& [pages, label] : {std::pair<uint64_t, const char*>{100, "400K"},
                                     {249, "996K"},
                                     {250, "1.0M"},
                                     {256, "1.0M"},
                                     {2534, "9.9M"},
                                     {2548, " 10M"},
                                     {25600, "100M"},
                                     {uint64_t{1} << 28, "1.0T"},
                                     {uint64_t{999} << 18, "999G"},
                                     {uint64_t{1023} << 18, "1.0T"},
                                     {uint64_t{1} << 51, "8.0E"}}) {
    EXPECT_THAT(MapText(OneRow({{pages, kAbsent}}), 80, false), HasSubstr(base::Format(" <%s>\n", label)));
  }
}

TEST(PageMap, NoRowsAndNoPages) {
  EXPECT_EQ(MapText({"t", {}}, 80, false), "t\none cell is 4 KiB\n\n\n");
  EXPECT_EQ(MapText(OneRow({{0, kModified}}), 80, false), "t\none cell is 4 KiB\n\nrow\n\n");
  for (const PageMap& map : {PageMap{"t", {}}, PageMap{}, OneRow({{0, kModified}})}) {
    EXPECT_EQ(WrongXml(MapSvg(map)), "");
    EXPECT_TRUE(Cells(MapSvg(map)).empty());
  }
}

TEST(PageMap, HowRunsAreCutUpDoesNotMatter) {
  const PageMap whole = OneRow({{6000, kClean}, {9000, kModified}, {200000, kAbsent}, {5, kZero}});
  const PageMap cut = OneRow({{0, kZero},
                              {5999, kClean},
                              {1, kClean},
                              {0, kShared},
                              {9000, kModified},
                              {1, kAbsent},
                              {0, kModified},
                              {199999, kAbsent},
                              {5, kZero}});
  EXPECT_EQ(MapText(cut, 80, true), MapText(whole, 80, true));
  EXPECT_EQ(MapSvg(cut), MapSvg(whole));
}

TEST(PageMap, LinesFitTheColumns) {
  PageMap map = OneRow({{1000, kClean}, {100000, kAbsent}, {7, kModified}});
  map.title = std::string(500, 'T');
  map.rows.push_back(
      {"1 7f00-7f10 rw-p /" + std::string(300, 'n') + "/end", 0xffffffff00000000, {{999, kZero}}});
  for (unsigned columns : {0u, 1u, 39u, 40u, 41u, 80u, 133u, 400u, 401u, 4000000000u}) {
    const unsigned width = std::clamp(columns, 40u, 400u);
    const std::string text = MapText(map, columns, false);
    const std::string picture = text.substr(0, text.find("\n\nM modified"));
    size_t longest = 0;
    for (const std::string& line : Lines(picture)) longest = std::max(longest, line.size());
    EXPECT_LE(longest, width) << columns;
    EXPECT_GE(longest, width - 8) << columns << ": the columns are used";
    EXPECT_THAT(text, StartsWith("TTT"));
    EXPECT_THAT(text, HasSubstr("TTT...TTT"));
  }
}

TEST(PageMap, NamesAreShortenedInTheMiddle) {
  PageMap map = OneRow({{1, kClean}});
  map.rows[0].name = "1 7f00-7f10 rw-p /usr/lib/libc.so.6";
  EXPECT_THAT(MapText(map, 40, false), HasSubstr("\n1 7f00-...c.so.6 c\n"));
  map.rows[0].name = "";
  for (int i = 0; i < 60; ++i) map.rows[0].name += "\xc3\xa4";
  std::string half;
  for (int i = 0; i < 20; ++i) half += "\xc3\xa4";
  const std::string tail = half + half.substr(0, 2);
  EXPECT_THAT(MapSvg(map), HasSubstr("</title>" + tail + "..." + half + "</text>")) << "44 whole characters";
}

TEST(PageMap, ColourAddsOnlyColour) {
  const PageMap map = OneRow({{3, kModified}, {100, kAbsent}, {2, kVz}, {2, kAbsent}});
  const std::string coloured = MapText(map, 80, true);
  EXPECT_EQ(std::regex_replace(coloured, std::regex("\x1b\\[[0-9;]*m"), ""), MapText(map, 80, false));
  EXPECT_THAT(coloured,
              HasSubstr("\x1b[38;5;16;48;5;166mMMM\x1b[0m<400K>\x1b[38;5;231;48;5;89mvv\x1b[0m..\n"));
  EXPECT_THAT(MapText(map, 80, false), Not(HasSubstr("\x1b")));
}

// ---- looks ----

TEST(PageMap, EveryLookHasALetterAndColours) {
  std::set<std::string> letters, names, fills, backgrounds;
  for (const PageLook look : kByInterest) {
    const std::string text = MapText(OneRow({{2, look}}), 80, true);
    const auto line = Find(text, "\nrow            (?:\x1b\\[38;5;\\d+;48;5;(\\d+)m)?(.)\\2(?:\x1b\\[0m)?\n");
    ASSERT_EQ(line.size(), 1u) << text;
    backgrounds.insert(line[0].groups[1]);
    letters.insert(line[0].groups[2]);
    const auto legend = Find(text, "\n(?:\x1b\\[[0-9;]+m)?(.)(?:\x1b\\[0m)? (.+)  2 pages     8.0 KiB\n$");
    ASSERT_EQ(legend.size(), 1u) << text;
    EXPECT_EQ(legend[0].groups[1], line[0].groups[2]) << "the legend's letter is that of the cells";
    names.insert(legend[0].groups[2]);
    const std::string svg = MapSvg(OneRow({{2, look}}));
    const std::vector<Drawn> cells = Cells(svg);
    ASSERT_EQ(cells.size(), 1u) << svg;
    EXPECT_EQ(cells[0].tooltip, "0x0-0x2000: 2 pages, " + legend[0].groups[2]);
    fills.insert(cells[0].fill);
    EXPECT_EQ(Find(svg, "fill=\"" + cells[0].fill + "\"/>\n<text [^>]*>" + "[^<]*</text>").size(), 1u);
  }
  EXPECT_EQ(letters.size(), cli::kPageLooks);
  EXPECT_EQ(names.size(), cli::kPageLooks);
  EXPECT_EQ(fills.size(), cli::kPageLooks);
  EXPECT_EQ(backgrounds.size(), cli::kPageLooks) << "absent has none";
  EXPECT_TRUE(backgrounds.contains(""));
}

// In both orders, so that it is neither the first nor the last of a block.
TEST(PageMap, ACellShowsTheMostInterestingLook) {
  const auto fill = [](PageLook look) { return Cells(MapSvg(OneRow({{1, look}})))[0].fill; };
  for (size_t i = 0; i < cli::kPageLooks; ++i) {
    EXPECT_EQ(cli::kLooksByInterest[i], kByInterest[i]);
    for (size_t j = i + 1; j < cli::kPageLooks; ++j) {
      const MapRun more = {8191, kByInterest[j]};
      for (const auto& runs : {std::vector<MapRun>{{1, kByInterest[i]}, more}, {more, {1, kByInterest[i]}}}) {
        PageMap map = OneRow(runs);
        map.rows.push_back({"fill", 0, {{1 << 24, kModified}}});
        EXPECT_EQ(Cells(MapSvg(map))[0].fill, fill(kByInterest[i])) << i << " " << j;
      }
    }
  }
}

TEST(PageMap, CellsAreThePalerTheFewerPagesLookSo) {
  const auto opacity = [](uint64_t modified) {
    PageMap map = OneRow({{modified, kModified}, {8192 - modified, kClean}});
    map.rows.push_back({"fill", 0, {{1 << 24, kClean}}});
    const std::string svg = MapSvg(map);
    EXPECT_THAT(svg, HasSubstr("one cell is 32 MiB (8192 pages)"));
    EXPECT_THAT(svg, HasSubstr("A cell shows the first of these looks that it has, the paler"));
    return Cells(svg)[0].opacity;
  };
  EXPECT_EQ(opacity(1), ".35");
  EXPECT_EQ(opacity(2047), ".35");
  EXPECT_EQ(opacity(2048), ".5");
  EXPECT_EQ(opacity(4096), ".65");
  EXPECT_EQ(opacity(8191), ".8");
  EXPECT_EQ(opacity(8192), "");
}

TEST(PageMap, TooltipsSayWhatIsThere) {
  PageMap map = OneRow({{1, kModified}, {2, kClean}, {5, kZero}, {3, kVz}, {8181, kAbsent}}, 0x10000);
  map.rows.push_back({"fill", 0x4000, {{1 << 24, kVr}}});
  const std::string svg = MapSvg(map);
  EXPECT_THAT(svg, HasSubstr("<title>0x10000-0x2010000: 8192 pages: 1 modified, 3 Vz, 2 clean, ...</title>"));
  EXPECT_THAT(svg, HasSubstr("<title>0x4000-0x80004000: 524288 pages, Vr: volatile, resident</title>"));
  map.rows[0].runs = {{8191, kClean}, {1, kModified}};
  EXPECT_THAT(MapSvg(map), HasSubstr("<title>0x10000-0x2010000: 8192 pages: 1 modified, 8191 clean</title>"));
}

// ---- sizes ----

TEST(PageMap, AHundredPages) {
  std::vector<MapRun> runs;
  for (int i = 0; i < 50; ++i) runs.insert(runs.end(), {{1, kModified}, {1, kZero}});
  const PageMap map = OneRow(runs, 0x1000);
  ExpectComplete(map);
  const std::vector<Drawn> cells = Cells(MapSvg(map));
  ASSERT_EQ(cells.size(), 100u);
  EXPECT_EQ(cells[64].tooltip, "0x41000-0x42000: 1 page, modified");
  EXPECT_EQ(cells[64].x, 350u);
  EXPECT_EQ(cells[64].y, cells[63].y + 16);
  const std::string text = MapText(map, 80, false);
  EXPECT_EQ(Find(CellsOfText(text), "M0").size(), 50u);
}

TEST(PageMap, TheSmallestCellsThatFit) {
  std::vector<MapRun> runs;
  for (int i = 0; i < 2048; ++i) runs.insert(runs.end(), {{1, kModified}, {1, kZero}});
  EXPECT_THAT(MapSvg(OneRow(runs)), HasSubstr(">one cell is 4 KiB</text>"));
  EXPECT_EQ(Cells(MapSvg(OneRow(runs))).size(), 4096u);
  ExpectComplete(OneRow(runs));
  runs.push_back({1, kModified});
  EXPECT_THAT(MapSvg(OneRow(runs)), HasSubstr(">one cell is 8 KiB (2 pages)</text>"));
  EXPECT_EQ(CellCount(Cells(MapSvg(OneRow(runs)))), 2049u);
  ExpectComplete(OneRow(runs));
  // 32 lines of 64 cells.
  EXPECT_THAT(MapText(OneRow({{2048, kClean}}), 80, false), HasSubstr("one cell is 4 KiB\n"));
  EXPECT_THAT(MapText(OneRow({{2049, kClean}}), 80, false), HasSubstr("one cell is 8 KiB (2 pages)\n"));
  EXPECT_THAT(MapText(OneRow({{2048 * 256, kClean}}), 80, false),
              HasSubstr("one cell is 1 MiB (256 pages)\n"));
}

// Cells that all differ from their neighbours, with the longest tooltips there are.
TEST(PageMap, TheLargestFiles) {
  PageMap map{"t", {}};
  for (uint64_t row = 0; row < 128; ++row) {
    map.rows.push_back({std::string(1000, '&'), 0x7fffffff0000 + (row << 40), {}});
    for (int cell = 0; cell < 32; ++cell) {
      const PageLook first = cell % 2 == 0 ? kModified : kShared;
      map.rows.back().runs.insert(map.rows.back().runs.end(),
                                  {{90000, first}, {90000, kSwapped}, {50000, kClean}, {32144, kZero}});
    }
  }
  EXPECT_GT(MapSvg(map).size(), 1u << 19) << "is a large file";
  ExpectComplete(map);
}

TEST(PageMap, AHundredMillionPagesInAlternatingRuns) {
  std::vector<MapRun> runs;
  for (int i = 0; i < 100000; ++i) {
    runs.insert(runs.end(), {{700, kClean}, {100, kModified}, {150, kAbsent}, {50, kSwapped}});
  }
  const PageMap map = OneRow(runs, 0x7f0000000000);
  ExpectComplete(map);
  EXPECT_THAT(MapSvg(map), AllOf(HasSubstr(">10000000 pages</text>"), HasSubstr(">38.1 GiB</text>"),
                                 HasSubstr("one cell is 128 MiB (32768 pages)")));
  EXPECT_EQ(Lines(MapText(map, 80, false)).size(), 3 + 24u + 6);
}

TEST(PageMap, OnePageAmongAHundredMillionIsSeen) {
  for (const PageLook most : {kClean, kAbsent}) {
    const PageMap map = OneRow({{61234567, most}, {1, kModified}, {38765432, most}});
    ExpectComplete(map);
    const std::string fill = Cells(MapSvg(OneRow({{1, kModified}})))[0].fill;
    const std::vector<Drawn> cells = Cells(MapSvg(map));
    EXPECT_EQ(std::ranges::count(cells, fill, &Drawn::fill), 1);
    EXPECT_EQ(CellCount({*std::ranges::find(cells, fill, &Drawn::fill)}), 1u);
    const std::string text = MapText(map, 80, false);
    EXPECT_EQ(std::ranges::count(CellsOfText(text), 'M'), 1);
    EXPECT_THAT(text, HasSubstr("M modified          1 page     4.0 KiB\n"));
  }
}

TEST(PageMap, ASparseTebibyteShowsItsPages) {
  std::vector<MapRun> runs;
  std::vector<std::string> addresses;
  constexpr uint64_t kStride = (uint64_t{1} << 28) / 300;
  for (uint64_t i = 0; i < 300; ++i) {
    runs.insert(runs.end(), {{kStride - 1, kAbsent}, {1, i % 2 == 0 ? kModified : kClean}});
    addresses.push_back(base::Format("0x%llx-", 0x10000000000ull + (kStride * (i + 1) - 1) * 4096));
  }
  const PageMap map = OneRow(runs, 0x10000000000);
  ExpectComplete(map);
  const std::string svg = MapSvg(map);
  EXPECT_THAT(svg, HasSubstr(">one cell is 4 KiB</text>"));
  const std::vector<Drawn> cells = Cells(svg);
  ASSERT_EQ(cells.size(), 300u);
  for (size_t i = 0; i < 300; ++i) EXPECT_THAT(cells[i].tooltip, StartsWith(addresses[i]));
  EXPECT_EQ(Folds(svg).size(), 300u);
  EXPECT_THAT(svg, AllOf(HasSubstr(">3.4G</text>"), HasSubstr("not drawn, 1.0 TiB in all.")));
  const std::string text = MapText(map, 100, false);
  EXPECT_EQ(std::ranges::count(CellsOfText(text), 'M'), 150);
  EXPECT_LE(Lines(text).size(), 40u);
}

TEST(PageMap, SixtyThousandRows) {
  PageMap map{"t", {}};
  for (uint64_t i = 0; i < 60000; ++i) {
    const bool large = i % 600 == 599;  // 100 of them
    map.rows.push_back({base::Format("row %llu", static_cast<unsigned long long>(i)),
                        i << 20,
                        {{large ? 10 : i % 3, kClean}, {large ? 0u : 50u, kAbsent}}});
  }
  map.rows[1234].runs = {{1, kModified}, {51, kAbsent}};
  ExpectComplete(map);
  const std::string svg = MapSvg(map);
  EXPECT_EQ(Find(svg, "</title>row \\d+</text>").size(), 127u);
  for (uint64_t i = 599; i < 60000; i += 600) {
    EXPECT_THAT(svg, HasSubstr(base::Format("</title>row %d</text>", static_cast<int>(i))));
  }
  EXPECT_THAT(svg, HasSubstr("</title>... 59873 more vmas (3053397 pages)</text>"));
  const std::string fill = Cells(MapSvg(OneRow({{1, kModified}})))[0].fill;
  EXPECT_EQ(std::ranges::count(Cells(svg), fill, &Drawn::fill), 1) << "among the rows that are joined";
  const std::string text = MapText(map, 100, false);
  EXPECT_EQ(Find(svg, "<title>0x").size(), 127u) << "joined rows have no addresses";
  EXPECT_EQ(Find(svg, "<text [^>]*fill=\"#595959\">[^<]").size(), 0u);
  EXPECT_EQ(Find(text, "\n  [0-9a-f]+ ").size(), 0u);
  EXPECT_THAT(text, HasSubstr("\n\nrow 599    "));
  EXPECT_THAT(text, HasSubstr("\nrow 18599    "));
  EXPECT_THAT(text, HasSubstr("c\n... 59969 more vmas ("));
  EXPECT_LE(Lines(text).size(), 3 + 64u + 6);
  EXPECT_THAT(text.substr(text.find(" more vmas")), HasSubstr("\n" + std::string(36, ' ')))
      << "has several lines";
}

TEST(PageMap, AsManyRowsAsThereIsRoomForAreNotJoined) {
  for (const auto& [rows, joined] : {std::pair(32, false), {33, true}, {128, true}}) {
    PageMap map{"t", std::vector<MapRow>(static_cast<size_t>(rows), {"row", 0, {{1, kClean}}})};
    EXPECT_EQ(MapText(map, 80, false).find(" more vmas") != std::string::npos, joined) << rows;
    EXPECT_THAT(MapSvg(map), Not(HasSubstr(" more vmas")));
    map.rows.resize(129, map.rows[0]);
    EXPECT_THAT(MapSvg(map), HasSubstr("</title>... 2 more vmas (2 pages)</text>"));
  }
}

TEST(PageMap, CountsThatNoMemoryHas) {
  constexpr uint64_t kAll = ~uint64_t{0};
  PageMap map = OneRow({{kAll, kClean}, {kAll, kModified}}, kAll - 4095);
  map.rows.push_back({"row", kAll, {{kAll, kAbsent}}});
  EXPECT_THAT(MapText(map, 80, false), HasSubstr("\nc clean  4503599627370495 pages    16.0 EiB\n"));
  EXPECT_EQ(LegendOfSvg(MapSvg(map)), (uint64_t{1} << 52) - 1);
  map.rows = std::vector<MapRow>(1000, {"row", 0, {{kAll, kAbsent}, {1, kClean}, {kAll, kAbsent}}});
  EXPECT_EQ(LegendOfText(MapText(map, 80, true)), (uint64_t{1} << 52) - 1);
  EXPECT_EQ(WrongXml(MapSvg(map)), "");
}

// ---- documents and hostile input ----

TEST(PageMap, AnSvgStandsAlone) {
  PageMap map = OneRow({{3, kModified}, {1 << 20, kAbsent}, {5000, kClean}, {3, kUz}});
  map.title = "a title";
  const std::string svg = MapSvg(map);
  EXPECT_EQ(WrongXml(svg), "");
  EXPECT_THAT(svg, HasSubstr("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, HasSubstr("role=\"img\""));
  EXPECT_THAT(svg, HasSubstr("<title id=\"ckpt-map-title\">a title</title>"));
  EXPECT_THAT(svg, EndsWith("</svg>\n"));
  const auto box = Find(svg, "viewBox=\"0 0 (\\d+) (\\d+)\" width=\"(\\d+)\" height=\"(\\d+)\"");
  ASSERT_EQ(box.size(), 1u);
  const std::vector<std::string>& size = box[0].groups;
  EXPECT_EQ(size[1], size[3]);
  EXPECT_EQ(size[2], size[4]);
  EXPECT_THAT(svg, HasSubstr("<rect width=\"" + size[1] + "\" height=\"" + size[2] + "\" fill=\"#fff\"/>"))
      << "white behind all of it";
  for (const Drawn& cell : Cells(svg)) EXPECT_LT(cell.y + 14, std::stoull(size[2]));
  for (const Match& font : Find(svg, "font-size=\"(\\d+)\"")) EXPECT_GE(std::stoi(font.groups[1]), 11);
  EXPECT_THAT(svg, Not(HasSubstr("href"))) << "nothing from elsewhere";
}

TEST(PageMap, HostileNames) {
  const std::string names[] = {"</text><script>alert('&\"')</script>",
                               "]]><!--",
                               "&amp;&#0;&",
                               std::string("nul\0nul", 7),
                               "\x1b[2J\x1b]0;title\x07\r\n\t\x7f",
                               "\xc2\x9b\x32J",
                               "\xff\xfe\xc3",
                               "\xc0\xaf\xe0\x80\xaf\xed\xa0\x80\xf4\x90\x80\x80\xf8\x88\x80\x80\x80",
                               "\xef\xbf\xbf\xef\xbf\xbe\xef\xbb\xbf",
                               "\xe2\x80\xae gnp.exe \xe2\x81\xa6",
                               std::string(100000, '\x1b'),
                               std::string(100000, '<'),
                               "%s%n%999999d",
                               "\xc3\xa4\xe4\xb8\xad\xf0\x9f\x98\x80"};
  for (const std::string& name : names) {
    PageMap map = {name, {{name, 0, {{1, kClean}}}, {name + "2", 0, {{10, kAbsent}}}}};
    const std::string svg = MapSvg(map);
    EXPECT_EQ(WrongXml(svg), "") << testing::PrintToString(name.substr(0, 30));
    EXPECT_EQ(Find(svg, "<(?!/?(svg|title|defs|pattern|rect|text|g)[ >]|\\?xml )").size(), 0u) << svg;
    EXPECT_LT(svg.size(), 20000u);
    for (const unsigned columns : {40u, 400u}) {
      const std::string text = MapText(map, columns, false);
      EXPECT_EQ(WrongCharacters(std::regex_replace(text, std::regex("&"), "")), "");
      EXPECT_EQ(Lines(text).size(), 3u + 2 + 1 + 2) << text;
      for (const char* direction : {"\xe2\x80\xae", "\xe2\x81\xa6", "\xef\xbb\xbf", "\x7f", "\xc2\x9b"}) {
        EXPECT_THAT(text, Not(HasSubstr(direction)));
      }
    }
  }
}

TEST(PageMap, WhatCannotBeShownIsEscaped) {
  for (const auto& [name, shown] : {std::pair("\xc1\xbf", R"(\xc1\xbf)"),
                                    {"\xe0\x9f\xbf", R"(\xe0\x9f\xbf)"},
                                    {"\xe0\xa0\x80", "\xe0\xa0\x80"},
                                    {"\xed\x9f\xbf", "\xed\x9f\xbf"},
                                    {"\xed\xa0\x80", R"(\xed\xa0\x80)"},
                                    {"\xed\xbf\xbf", R"(\xed\xbf\xbf)"},
                                    {"\xee\x80\x80", "\xee\x80\x80"},
                                    {"\xef\xbf\xbd", "\xef\xbf\xbd"},
                                    {"\xef\xbf\xbe", R"(\xef\xbf\xbe)"},
                                    {"\xf0\x8f\xbf\xbf", R"(\xf0\x8f\xbf\xbf)"},
                                    {"\xf0\x90\x80\x80", "\xf0\x90\x80\x80"},
                                    {"\xf4\x8f\xbf\xbd", "\xf4\x8f\xbf\xbd"},
                                    {"\xf4\x90\x80\x80", R"(\xf4\x90\x80\x80)"},
                                    {"\xf0\x90\x80", R"(\xf0\x90\x80)"}}) {
    EXPECT_THAT(MapSvg({"t", {{name, 0, {}}}}), HasSubstr("</title>" + std::string(shown) + "</text>"));
  }
  const std::string svg = MapSvg({"t", {{"<a&b>\x01\xff\xc3\xa4", 0, {}}}});
  EXPECT_THAT(svg, HasSubstr("</title>&lt;a&amp;b&gt;\\x01\\xff\xc3\xa4</text>"));
  EXPECT_THAT(MapText({"a\nb\x1b", {{"<a&b>\x01\xff\xc3\xa4", 0, {}}}}, 80, false),
              AllOf(StartsWith("a\\x0ab\\x1b\n"), HasSubstr("\n<a&b>\\x01\\xff\xc3\xa4\n")));
}

}  // namespace
}  // namespace cli_test
