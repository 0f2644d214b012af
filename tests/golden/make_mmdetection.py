"""Runs mmdetection's SSDHead on `dialect_inputs` and writes its results: tests/golden/mmdetection/*.npz.

python tests/golden/make_mmdetection.py [OUT]

Needs mmdet 3.3, mmengine and mmcv-lite 2.1, which lacks mmcv's compiled ops: torchvision's NMS replaces its NMS.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch
import torchvision
from recording import dialect_inputs, record, save

CONFIGS = {
    "mmdet_ssd300_coco": "ssd/ssd300_coco.py",
    "mmdet_ssd512_coco": "ssd/ssd512_coco.py",
    "mmdet_ssd300_voc": "pascal_voc/ssd300_voc0712.py",
    "mmdet_ssd512_voc": "pascal_voc/ssd512_voc0712.py",
}


def main(out: str | None = None) -> None:
    torch.set_num_threads(1)
    sys.modules["mmcv._ext"] = CompiledOps("mmcv._ext")
    import mmdet
    from mmengine.config import Config, ConfigDict
    from mmengine.registry import init_default_scope
    from mmengine.structures import InstanceData

    init_default_scope("mmdet")
    from mmdet.models.dense_heads.ssd_head import SSDHead

    for name, path in CONFIGS.items():
        config = Config.fromfile(str(Path(mmdet.__file__).parent / ".mim" / "configs" / path)).model
        options = dict(config.bbox_head, train_cfg=config.train_cfg, test_cfg=config.test_cfg)
        options.pop("type")
        head = SSDHead(**options)
        head.loss_cls = None  # predict_by_feat asks it for custom channels, and SSDHead has none
        side = 512 if "512" in name else 300
        strides = [stride[0] for stride in head.prior_generator.strides]
        maps = [64, 32, 16, 8, 4, 2, 1] if side == 512 else [38, 19, 10, 5, 3, 1]
        assert len(maps) == len(strides)
        anchors = head.prior_generator.grid_priors([(m, m) for m in maps], device="cpu")
        meta = dict(
            img_shape=(side, side), pad_shape=(side, side), scale_factor=(0.5, 0.8), batch_input_shape=(side, side)
        )
        background = head.num_classes

        def to_maps(rows, head=head, maps=maps):
            levels, first = [], 0
            for m, a in zip(maps, head.num_base_priors, strict=True):
                level = rows[:, first : first + m * m * a]
                levels.append(level.reshape(len(rows), m, m, -1).permute(0, 3, 1, 2).contiguous())
                first += m * m * a
            return levels

        def match(boxes, labels, head=head, anchors=anchors):
            everything = InstanceData(priors=torch.cat(anchors))
            truth = InstanceData(bboxes=boxes, labels=labels)
            columns = head.assigner.assign(everything, truth).gt_inds  # 0: background, else the ground truth from 1
            matched = boxes[(columns - 1).clamp(min=0)]
            return head.bbox_coder.encode(torch.cat(anchors), matched), columns

        def decode(deltas, head=head, anchors=anchors):
            return head.bbox_coder.decode(torch.cat(anchors), deltas)  # no max_shape: not clipped

        def loss(logits, deltas, truths, head=head, meta=meta, to_maps=to_maps):
            instances = [InstanceData(bboxes=boxes, labels=labels - 1) for boxes, labels in truths]
            losses = head.loss_by_feat(to_maps(logits), to_maps(deltas), instances, [meta] * len(truths))
            return sum(losses["loss_bbox"]), sum(losses["loss_cls"])

        def detect(logits, deltas, head=head, meta=meta, to_maps=to_maps, cfg=None):
            found = head.predict_by_feat(
                to_maps(logits), to_maps(deltas), batch_img_metas=[meta] * 2, cfg=cfg, rescale=True
            )
            return [{"boxes": x.bboxes, "scores": x.scores, "labels": x.labels} for x in found]

        def crowded(logits, deltas, head=head, detect=detect):
            """Return all that NMS keeps of more candidates than nms_pre on the larger maps."""
            logits[..., : head.num_classes] += dialect_inputs.CROWDED
            return detect(logits, deltas, cfg=ConfigDict(head.test_cfg, max_per_img=dialect_inputs.ALL))

        def exact(logits, boxes, truths, head=head, meta=meta):
            instances = InstanceData(priors=boxes), InstanceData(bboxes=truths, labels=torch.arange(len(truths)))
            columns = torch.full((logits.shape[1], head.num_classes + 1), -1000.0)  # a probability of 0
            columns[:, 0], columns[:, -1] = logits[0, :, 1], logits[0, :, 0]
            found = head._predict_by_feat_single(
                cls_score_list=[columns.T[:, :, None]],
                bbox_pred_list=[torch.zeros(4, len(boxes), 1)],
                score_factor_list=[None],
                mlvl_priors=[boxes],
                img_meta=meta,
                cfg=ConfigDict(head.test_cfg, score_thr=0.5, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.5)),
            )
            return head.assigner.assign(*instances).gt_inds - 1, found.scores

        arrays = record(
            side,
            head.num_classes + 1,
            torch.cat(anchors),
            match,
            decode,
            loss,
            detect if name == "mmdet_ssd300_voc" else None,  # the others run the same code
            more={"crowded": crowded} if name == "mmdet_ssd300_voc" else None,
            exact=exact,
            one_empty=True,
            unit=1,
            background=background,
            floor=-11.5,  # fewer candidates than nms_pre, 1000 per map
        )
        save("mmdetection", out, name, arrays)


class CompiledOps(types.ModuleType):
    """Stands for mmcv's extension: its NMS is torchvision's, and no other op runs."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    @staticmethod
    def nms(boxes, scores, iou_threshold, offset):
        assert offset == 0
        return torchvision.ops.nms(boxes, scores, iou_threshold)


if __name__ == "__main__":
    main(*sys.argv[1:])
