from .boxes import Box as Box
from .boxes import box_from_record as box_from_record
from .boxes import box_iou as box_iou
