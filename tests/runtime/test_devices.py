"""Devices: found by what a person calls them, or refused with a list of what there is."""

import importlib
import math
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from hearloop.runtime import portaudio, software_device
from hearloop.runtime.devices import DeviceDescription, find_device
from hearloop.runtime.errors import AudioError, DeviceError
from hearloop.runtime.software_device import RealTimeClock, SoftwareDevice

DEVICES = [
    DeviceDescription(0, "HDMI", "ALSA", 0, 8, 44100),
    DeviceDescription(1, "USB Headset", "ALSA", 1, 2, 48000, default_input=True, default_output=True),
    DeviceDescription(2, "USB Headset Pro", "ALSA", 2, 2, 48000),
    DeviceDescription(3, "Webcam", "ALSA", 1, 0, 16000),
]


@pytest.mark.parametrize(
    ("wanted", "direction", "index"),
    [
        (None, "input", 1),
        (2, "input", 2),
        ("3", "input", 3),
        ("webc", "input", 3),
        ("headset PRO", "output", 2),
        ("usb headset", "input", 1),
        ("hdmi", "output", 0),
    ],
)
def test_a_device_is_found_by_index_part_of_its_name_or_as_the_default(wanted, direction, index):
    assert find_device(wanted, DEVICES, direction).index == index


@pytest.mark.parametrize(
    ("wanted", "direction"), [("oboe", "input"), (7, "output"), (0, "input"), ("webcam", "output"), ("²", "input")]
)
def test_an_unknown_device_is_an_error_that_lists_what_there_is(wanted, direction):
    with pytest.raises(DeviceError, match=r"is unknown.*(?s:.*)USB Headset") as raised:
        find_device(wanted, DEVICES, direction)
    able = [device for device in DEVICES if getattr(device, direction + "s")]
    assert all(device.name in str(raised.value) for device in able)


def test_a_name_that_fits_two_devices_is_an_error():
    with pytest.raises(DeviceError, match="fits 2 devices"):
        find_device("headset", DEVICES[:1] + DEVICES[2:] + [DEVICES[2]], "input")


def test_too_few_channels_and_no_devices_at_all_are_errors():
    with pytest.raises(DeviceError, match=r"'Webcam' has 1 input channel.*2 are needed"):
        find_device("webcam", DEVICES, "input", channels=2)
    with pytest.raises(DeviceError, match="no input device"):
        find_device(None, DEVICES[:1], "input")


def test_without_the_portaudio_library_the_error_tells_how_to_install_it(monkeypatch):
    def missing(name):
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DeviceError, match=r"apt install libportaudio2.*brew install portaudio"):
        portaudio.list_devices()
    with pytest.raises(DeviceError, match="PortAudio library not found"):
        portaudio.PortAudioDevice()


class FakeStream:
    """A stream that takes its time to stop."""

    active = True

    def __init__(self, latency):
        self.latency, self.closed = latency, 0

    def start(self): ...

    def stop(self):
        time.sleep(0.05)

    def close(self):
        self.closed += 1


@pytest.fixture
def fake_portaudio(monkeypatch):
    """PortAudio with one device: streams are told the `latency` of the moment, in seconds; all of them are kept."""

    def open_stream(kind, **settings):
        fake.streams.append(FakeStream(fake.latency))
        return fake.streams[-1]

    device = {"name": "system", "hostapi": 0, "max_input_channels": 2, "max_output_channels": 2}
    host = {"name": portaudio.JACK, "default_input_device": 0, "default_output_device": 0}
    fake = SimpleNamespace(
        PortAudioError=OSError,
        default=SimpleNamespace(hostapi=0),
        query_hostapis=lambda: [host],
        query_devices=lambda: [device | {"default_samplerate": 16000.0}],
        check_input_settings=lambda *_, **__: None,
        check_output_settings=lambda *_, **__: None,
        _StreamBase=open_stream,
        host=host,
        latency=(0.0, 0.008),
        streams=[],
    )
    monkeypatch.setattr(portaudio, "_sounddevice", lambda: fake)
    return fake


@pytest.mark.parametrize(("host", "samples"), [(portaudio.JACK, 256), ("ALSA", 128)])
def test_jack_is_asked_anew_how_long_it_takes_and_no_other_host_is(host, samples, fake_portaudio):
    fake_portaudio.host["name"] = host
    device = portaudio.PortAudioDevice()
    assert (device.input_latency_samples, device.output_latency_samples) == (0, 0)
    device.start(lambda *_: None)
    assert (device.input_latency_samples, device.output_latency_samples) == (0, 128)
    fake_portaudio.latency = (0.0, 0.016)
    assert device.output_latency_samples == samples
    assert all(stream.closed for stream in fake_portaudio.streams[1:])
    device.stop()
    assert device.output_latency_samples == samples
    assert (len(fake_portaudio.streams) > 1) == (host == portaudio.JACK)


def test_threads_that_stop_a_sound_card_at_once_close_it_once(fake_portaudio):
    device = portaudio.PortAudioDevice()
    device.start(lambda *_: None)
    threads = [threading.Thread(target=device.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [stream.closed for stream in fake_portaudio.streams] == [1]
    assert device.fault is None


def wait_for(device: SoftwareDevice, samples: float, seconds: float = 60) -> None:
    """Until so many samples have come through the device; a failure says how far it has come."""
    deadline = time.monotonic() + seconds
    while device.position < samples:
        assert device.fault is None
        assert time.monotonic() < deadline, (
            f"{device.name!r} has come to sample {device.position} within {seconds} s, expected {samples}"
        )
        time.sleep(0.001)


def collect(device: SoftwareDevice) -> list[np.ndarray]:
    """Run a device into a loopback until it has finished; returns what the microphone gave."""
    heard = []

    def loop_back(indata, outdata, frames):
        assert len(indata) == len(outdata) == frames
        heard.append(indata.copy())
        outdata[:] = indata[:, :1]

    device.start(loop_back)
    wait_for(device, device._length)
    device.stop()
    assert device.fault is None
    return heard


class Hurry:
    """A clock on which nothing takes time."""

    def wait(self, seconds):
        return 0.0

    def postpone(self, seconds): ...


@pytest.mark.parametrize("sizes", [128, [1, 7, 300]])
def test_the_headphones_hear_on_the_time_line_of_the_microphone(sizes, rng):
    audio = rng.standard_normal((1, 4000)).astype(np.float32)
    device = SoftwareDevice(audio, 16000, sizes, clock=Hurry())
    heard = np.concatenate(collect(device))[:4000, 0]
    assert np.array_equal(heard, audio[0])
    delay = int(device.input_latency_samples + device.output_latency_samples)
    assert delay == np.max(sizes)
    assert np.array_equal(device.output[0, delay : delay + 4000], audio[0])
    assert not device.output[0, :delay].any()


def test_a_recording_is_repeated_to_the_length_asked_for_and_followed_by_silence(rng):
    audio = rng.standard_normal((2, 1000)).astype(np.float32)
    device = SoftwareDevice(audio, 16000, 100, seconds=0.15, clock=Hurry())
    heard = np.concatenate(collect(device))
    assert np.array_equal(heard[:2400], np.tile(audio, 3)[:, :2400].T)
    assert not heard[2400:].any()


def test_an_endless_device_keeps_nothing(rng):
    device = SoftwareDevice(rng.standard_normal(1000), 16000, seconds=math.inf, clock=Hurry())
    device.start(lambda indata, outdata, frames: outdata.fill(1))
    wait_for(device, 160_000)
    device.stop()
    assert not device.finished
    assert device.output.size == 0


def test_a_device_that_is_not_to_keep_its_output_needs_no_memory_for_a_long_stream():
    device = SoftwareDevice(np.zeros(1000), 16000, seconds=1e300, keep_output=False, clock=Hurry())
    device.start(lambda indata, outdata, frames: outdata.fill(1))
    wait_for(device, 16_000)
    device.stop()
    assert (device.finished, device.fault, device.output.size) == (False, None, 0)


def test_the_clock_is_absolute(rng):
    device = SoftwareDevice(rng.standard_normal(8000), 16000, 80)
    began = time.perf_counter()
    collect(device)
    assert time.perf_counter() - began > 0.49
    assert len(device.output[0]) >= 8000


class FakeTime:
    """Passes where somebody sleeps, and nowhere else; in place of the module `time`."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_a_late_block_does_not_delay_the_others_and_a_very_late_one_is_a_gap(monkeypatch):
    clock, fake = RealTimeClock(), FakeTime()
    monkeypatch.setattr(software_device, "time", fake)
    clock.wait(0)
    fake.sleep(0.05)
    late = clock.wait(0.01)
    assert late > 0.035
    clock.postpone(late)
    assert clock.wait(0.01) < late
    device, slept = SoftwareDevice(np.zeros(16000), 16000, 160, seconds=0.3), []

    def sleep_once(indata, outdata, frames):
        if not slept:
            slept.append(fake.sleep(0.1))

    device.start(sleep_once)
    wait_for(device, 0.3 * 16000)
    device.stop()
    assert device.xruns == 1


def test_an_error_of_the_callback_ends_the_device_with_a_fault():
    def fail(indata, outdata, frames):
        raise ValueError("no sound")

    device = SoftwareDevice(np.zeros(1600), 16000)
    device.start(fail)
    device.stop()
    assert device.fault == "no sound"
    with pytest.raises(DeviceError, match="started before"):
        device.start(fail)


def test_files_become_microphones_or_a_clear_error(tmp_path, rng):
    audio = (0.1 * rng.standard_normal((4410, 2))).astype(np.float32)
    soundfile.write(tmp_path / "two.wav", audio, 44100, subtype="FLOAT")
    device = SoftwareDevice.from_file(tmp_path / "two.wav", clock=Hurry())
    assert (device.input_channels, device.sample_rate) == (2, 44100)
    assert np.array_equal(np.concatenate(collect(device))[:4410], audio)
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "silent.wav", np.zeros((0, 1)), 16000)
    for name in ("text.wav", "empty.wav", "none.wav", "silent.wav"):
        with pytest.raises(AudioError, match=name):
            SoftwareDevice.from_file(tmp_path / name)


def test_impossible_block_sizes_are_refused():
    for sizes in ([], [128, 0], -1):
        with pytest.raises(DeviceError, match="block_size"):
            SoftwareDevice(np.zeros(100), 16000, sizes)
