"""Where readings of a phone's signals come from: this host, a recording, a script; and how systems' values convert."""

from ebbtide.runtime.signals.conversions import (
    ANDROID_STATUS,
    APPLE_STATE,
    android_battery_percent,
    android_status,
    android_thresholds,
    apple_battery_percent,
    apple_state,
    headroom_mh,
    headroom_mh_of_temperature,
    milli_to_deci_celsius,
)
from ebbtide.runtime.signals.headroom import HeadroomMemory, HeadroomProbe
from ebbtide.runtime.signals.host import HostSource
from ebbtide.runtime.signals.protocol import Listeners, Origin, SignalSource
from ebbtide.runtime.signals.recorded import RecordedSource, Recorder, Recording, read_recording
from ebbtide.runtime.signals.scripted import ScriptedSource

__all__ = [
    "ANDROID_STATUS",
    "APPLE_STATE",
    "HeadroomMemory",
    "HeadroomProbe",
    "HostSource",
    "Listeners",
    "Origin",
    "RecordedSource",
    "Recorder",
    "Recording",
    "ScriptedSource",
    "SignalSource",
    "android_battery_percent",
    "android_status",
    "android_thresholds",
    "apple_battery_percent",
    "apple_state",
    "headroom_mh",
    "headroom_mh_of_temperature",
    "milli_to_deci_celsius",
    "read_recording",
]
