// The model's objects in the words of an image: what ModelSource writes down of vmas, files and recipes.
#pragma once

#include "base/error.h"
#include "mm/file.h"
#include "mm/smaps.h"
#include "mm/vma.h"
#include "proto/image.pb.h"

namespace ckpt {

ckpt_pb::Vma::Kind KindOf(const mm::Vma& vma);
ckpt_pb::File::Kind KindOf(const mm::File& file);
void DescribeRecipe(const mm::Recipe& recipe, ckpt_pb::Recipe& out);
void DescribeSmaps(const mm::Smaps& smaps, ckpt_pb::Smaps& out);

// kUnsupported: the vma is of a kind that no image can hold (spec C2).
base::Result<void> CheckVma(const mm::Vma& vma, mm::Pid pid);

// Adds the pages of a non-linear vma whose place the address does not say, present or not, in runs.
void DescribeNonlinear(mm::Vma& vma, ckpt_pb::Vmas& out);

}  // namespace ckpt
