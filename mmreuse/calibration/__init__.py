"""Calibration: closed-form refits of changed networks, in order and without labels."""
from mmreuse.calibration.calibrate import CalibrationReport, LayerFit, Source, calibrate

__all__ = ['CalibrationReport', 'LayerFit', 'Source', 'calibrate']
