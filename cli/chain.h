// The chain of an image as a timeline, for show.
#pragma once

#include "cli/print.h"
#include "proto/reader.h"

namespace cli {

// A line for each image of the chain, from the oldest on: when its file was written, how many pages it
// stores, how large it is, its label and name. Where an ancestor is missing, the error is told instead.
void PrintChain(const image::Reader& image);
// The same as an array; of a chain with a missing ancestor {"error": ...} alone.
nlohmann::ordered_json ChainJson(const image::Reader& image);

}  // namespace cli
