// The stages of multibox_loss in CUDA, and the workspace between them.
#pragma once

#include "common/cuda.cuh"
#include "multibox_loss/multibox_loss_task.h"

namespace ssd {

struct LossWorkspace {
  float* classification;  // [N, P] of every row, as if selected; row_loss_stage writes it, mining_stage reads it
  float* regression;      // [N, P] smooth L1 of positives, else 0
  ImageSums* images;      // [N]
};

void row_loss_stage(const LossTask& task, const LossWorkspace& workspace, Stream stream);
void mining_stage(const LossForward& forward, const LossWorkspace& workspace, Stream stream);

}  // namespace ssd
