"""Calibration: closed-form refits of changed networks, in order and without labels."""
from mmreuse.calibration.calibrate import calibrate
from mmreuse.calibration.images import Owners
from mmreuse.calibration.report import CalibrationReport, LayerFit
from mmreuse.calibration.source import Source

__all__ = ['CalibrationReport', 'LayerFit', 'Owners', 'Source', 'calibrate']
