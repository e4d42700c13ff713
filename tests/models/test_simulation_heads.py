"""Heads: what was measured comes back, what lies between follows the sphere's formula, files say what they hold."""

import h5py
import numpy as np
import pytest

from hearloop.models.simulation.directions import evenly_spread, turned, unit_vectors
from hearloop.models.simulation.head_files import read_head, read_heads, read_manifest_heads
from hearloop.models.simulation.heads import Head, _arrivals
from hearloop.models.simulation.sphere import spherical_head
from hearloop.runtime.errors import AudioError


@pytest.fixture(scope="module")
def head() -> Head:
    return spherical_head()


def time_difference_samples(response):
    """Right ear after left, from the lag of the highest correlation at 16 times the rate."""
    spectra = np.fft.rfft(response, 512)
    cross = np.fft.irfft(spectra[1] * spectra[0].conj(), 512 * 16)
    lag = int(np.argmax(cross))
    return (lag - 512 * 16 if lag > 256 * 16 else lag) / 16


def level_difference_db(response):
    return 10 * np.log10(np.sum(response[0] ** 2) / np.sum(response[1] ** 2))


def test_a_measured_direction_gives_what_was_measured(head):
    chosen = np.arange(0, len(head.vectors), 5)
    found = head.interpolated(head.vectors[chosen])
    taps = head.responses.shape[-1]
    assert np.abs(found[..., :taps] - head.responses[chosen]).max() < 1e-4
    assert np.abs(found[..., taps:]).max() < 1e-4


def test_between_measured_directions_the_response_is_nearly_that_of_a_denser_head(head):
    sparse = spherical_head(positions=300)
    dense = spherical_head(positions=1500)
    chosen = dense.vectors[72::37]
    wanted = dense.responses[72::37]
    error = sparse.interpolated(chosen)[..., : wanted.shape[-1]] - wanted
    ratio_db = 10 * np.log10((error**2).sum(axis=(1, 2)) / (wanted**2).sum(axis=(1, 2)))
    assert np.median(ratio_db) < -25
    assert ratio_db.max() < -10


@pytest.mark.parametrize("azimuth_deg", [0, 17, 30, 45, 60, 75])
def test_the_time_between_the_ears_is_that_of_a_sphere(head, azimuth_deg):
    # Woodworth 1938, with ears opposite one another; ears further back and low frequencies differ by a little.
    angle = np.radians(azimuth_deg)
    woodworth_ms = 1000 * 0.0875 / 343 * (angle + np.sin(angle))
    found_ms = time_difference_samples(head.response(azimuth_deg)) / 16
    assert found_ms == pytest.approx(woodworth_ms, abs=0.08)


def test_left_and_right_are_mirror_images(head):
    for azimuth_deg, elevation_deg in ((30, 0), (100, 20), (170, -40)):
        left, right = head.response(azimuth_deg, elevation_deg), head.response(-azimuth_deg, elevation_deg)
        assert level_difference_db(left) == pytest.approx(-level_difference_db(right), abs=0.5)
        assert time_difference_samples(left) == pytest.approx(-time_difference_samples(right), abs=0.3)
        assert level_difference_db(left) > 0


def test_interpolated_differences_move_smoothly_around_the_head(head):
    azimuths_deg = np.arange(0, 360, 1.0)
    responses = head.interpolated(unit_vectors(azimuths_deg))
    times = np.array([time_difference_samples(response) for response in responses])
    levels = np.array([level_difference_db(response) for response in responses])
    assert np.abs(np.diff(times)).max() < 0.5
    assert np.abs(np.diff(levels)).max() < 1.0


def test_arrivals_follow_a_known_delay():
    rng = np.random.default_rng(1)
    pulse = np.exp(-np.arange(40) / 3.0) * (1 + 0.1 * rng.standard_normal(40))
    shifts = np.array([5.0, 9.25, 17.5])
    spectra = np.fft.rfft(pulse, 256) * np.exp(-2j * np.pi * np.arange(129) * shifts[:, None] / 256)
    arrivals = _arrivals(np.fft.irfft(spectra, 256)[:, :96].astype(np.float32))
    assert np.diff(arrivals) == pytest.approx(np.diff(shifts), abs=0.2)


def test_the_roots_have_the_coherence_of_the_head_over_all_directions(head):
    spectra = np.fft.rfft(head.interpolated(evenly_spread(1000)), 256)
    cross = np.mean(spectra[:, 0] * spectra[:, 1].conj(), axis=0)
    powers = np.mean(np.abs(spectra) ** 2, axis=0)
    wanted = (cross / np.sqrt(powers[0] * powers[1])).real
    roots = np.fft.rfft(head.diffuse_roots, 256)
    found_cross = np.sum(roots[:, 0] * roots[:, 1].conj(), axis=0)
    found = (found_cross / np.sqrt(np.prod(np.sum(np.abs(roots) ** 2, axis=0), axis=0))).real
    assert np.abs(found - wanted)[2:].max() < 0.1
    assert found[2] > 0.9
    assert np.abs(found[30:]).max() < 0.3


def test_directions_are_counter_clockwise_and_a_turned_head_sees_the_world_turn_back():
    assert unit_vectors(90.0) == pytest.approx([0, 1, 0])
    assert turned(unit_vectors(50.0, 20.0), 30.0) == pytest.approx(unit_vectors(20.0, 20.0))
    assert np.abs(evenly_spread(200).mean(axis=0)).max() < 0.01


def parts(count=72):
    head = spherical_head()
    return head.azimuth_deg[:count], head.elevation_deg[:count], head.responses[:count]


def test_a_head_of_horizontal_directions_only_is_good_for_those():
    head = Head("ring", *parts())
    assert np.abs(head.response(35.0)[:, :96] - parts()[2][7]).max() < 1e-4
    assert np.all(np.isfinite(head.response(35.0, 60.0)))


def test_a_head_without_directions_behind_is_refused():
    azimuth, elevation, responses = parts()
    front = np.abs((azimuth + 180) % 360 - 180) <= 90
    with pytest.raises(AudioError, match=r"half: 180 degrees of the horizon"):
        Head("half", azimuth[front], elevation[front], responses[front])


def test_wrong_shapes_and_values_are_named():
    azimuth, elevation, responses = parts()
    with pytest.raises(AudioError, match=r"x: responses have the shape \(72, 1, 96\)"):
        Head("x", azimuth, elevation, responses[:, :1])
    with pytest.raises(AudioError, match="72, 72 and 71"):
        Head("x", azimuth, elevation[1:], responses)
    with pytest.raises(AudioError, match="not finite"):
        Head("x", azimuth, elevation, responses * np.nan)


def write_sofa(path, rate=16000, cartesian=False, right_first=False, delays=False, without=()):
    azimuth, elevation, responses = parts()
    if rate == 48000:
        fine = np.fft.irfft(np.fft.rfft(responses, 256), 768)[..., :400] * 3 / 3
        responses = np.concatenate([np.zeros((72, 2, 600)), fine], axis=-1)
    if right_first:
        responses = responses[:, ::-1]
    with h5py.File(path, "w") as file:
        file.attrs["SOFAConventions"] = np.bytes_("SimpleFreeFieldHRIR")
        if "Data.IR" not in without:
            file["Data.IR"] = responses
        file["Data.SamplingRate"] = np.array([float(rate)])
        file["Data.Delay"] = np.array([[2.0, 2.0]]) if delays else np.zeros((1, 2))
        vectors = 1.2 * unit_vectors(azimuth, elevation)
        spherical = np.stack([azimuth, elevation, np.full(72, 1.2)], axis=1)
        file["SourcePosition"] = vectors if cartesian else spherical
        file["SourcePosition"].attrs["Type"] = np.bytes_("cartesian" if cartesian else "spherical")
        side = -0.09 if right_first else 0.09
        file["ReceiverPosition"] = np.array([[0, side, 0], [0, -side, 0]])[..., None]
        file["ReceiverPosition"].attrs["Type"] = np.bytes_("cartesian")


@pytest.mark.parametrize("options", [{}, {"cartesian": True}, {"right_first": True}, {"delays": True}])
def test_a_sofa_file_gives_the_head_that_was_written(tmp_path, options):
    write_sofa(tmp_path / "her.sofa", **options)
    head = read_head(tmp_path / "her.sofa")
    assert head.name == "her"
    scale = np.abs(head.responses).max() / np.abs(parts()[2]).max()
    assert np.abs(head.responses / scale - parts()[2]).max() < 1e-5
    assert head.azimuth_deg % 360 == pytest.approx(parts()[0] % 360, abs=1e-6)


def test_a_long_sofa_file_at_another_rate_keeps_its_differences(tmp_path):
    write_sofa(tmp_path / "long.sofa", rate=48000)
    head = read_head(tmp_path / "long.sofa")
    assert head.responses.shape[-1] <= 256
    for azimuth_deg in (40, 90):
        found, wanted = head.response(azimuth_deg), spherical_head().response(azimuth_deg)
        assert time_difference_samples(found) == pytest.approx(time_difference_samples(wanted), abs=0.3)
        assert level_difference_db(found) == pytest.approx(level_difference_db(wanted), abs=0.5)


def test_what_a_file_lacks_is_named(tmp_path):
    write_sofa(tmp_path / "a.sofa", without=("Data.IR",))
    with pytest.raises(AudioError, match=r"a\.sofa: Data\.IR is missing"):
        read_head(tmp_path / "a.sofa")
    (tmp_path / "b.sofa").write_bytes(b"no sofa at all")
    with pytest.raises(AudioError, match=r"b\.sofa: not readable"):
        read_head(tmp_path / "b.sofa")
    np.savez(tmp_path / "c.npz", ir=np.zeros((4, 2, 8)), azimuth=np.zeros(4), fs=16000)
    with pytest.raises(AudioError, match=r"c\.npz: array elevation is missing"):
        read_head(tmp_path / "c.npz")
    with pytest.raises(AudioError, match="no heads"):
        read_heads(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fs": 0}, r"x\.npz: the sampling rate is 0 Hz; expected more than 0"),
        ({"fs": []}, r"x\.npz: not readable"),
        ({"azimuth": np.zeros(5)}, "72, 72 and 5|5, 72 and 72|72, 5"),
    ],
)
def test_an_archive_with_values_that_make_no_sense_is_named(tmp_path, changes, message):
    azimuth, elevation, responses = parts()
    np.savez(tmp_path / "x.npz", **{"ir": responses, "azimuth": azimuth, "elevation": elevation, "fs": 16000} | changes)
    with pytest.raises(AudioError, match=message):
        read_head(tmp_path / "x.npz")


def test_an_archive_may_hold_columns(tmp_path):
    azimuth, elevation, responses = parts()
    columns = {"azimuth": azimuth[:, np.newaxis], "elevation": elevation[:, np.newaxis], "fs": [[16000.0]]}
    np.savez(tmp_path / "x.npz", ir=responses, **columns)
    assert read_head(tmp_path / "x.npz").azimuth_deg == pytest.approx(azimuth)


def test_an_archive_that_is_cut_or_none_is_named(tmp_path):
    azimuth, elevation, responses = parts()
    np.savez(tmp_path / "whole.npz", ir=responses, azimuth=azimuth, elevation=elevation, fs=16000)
    whole = (tmp_path / "whole.npz").read_bytes()
    for name, content in (("empty", b""), ("cut", whole[: len(whole) // 2])):
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(AudioError, match=rf"{name}\.npz: not readable"):
            read_head(tmp_path / f"{name}.npz")
    with open(tmp_path / "one.npz", "wb") as file:
        np.save(file, responses)
    with pytest.raises(AudioError, match=r"one\.npz: holds one array without a name"):
        read_head(tmp_path / "one.npz")


def test_a_sofa_file_has_as_many_places_as_responses(tmp_path):
    write_sofa(tmp_path / "a.sofa")
    with h5py.File(tmp_path / "a.sofa", "a") as file:
        del file["SourcePosition"]
        file["SourcePosition"] = np.array([[0.0, 0.0, 1.2]])
    with pytest.raises(AudioError, match=r"a\.sofa: has 1 source positions of 72 responses; expected as many"):
        read_head(tmp_path / "a.sofa")


def test_heads_are_read_at_a_frontal_gain_of_one(tmp_path):
    azimuth, elevation, responses = parts()
    np.savez(tmp_path / "loud.npz", ir=50 * responses, azimuth=azimuth, elevation=elevation, fs=16000)
    (head,) = read_heads(tmp_path)
    spectrum = np.abs(np.fft.rfft(head.response(0.0), 16000))[:, 300:4000]
    assert np.sqrt(np.mean(spectrum**2)) == pytest.approx(1, abs=0.01)


def test_measured_heads_hear_the_left_side_earlier_and_louder_at_the_left_ear(shared):
    heads = read_manifest_heads(shared / "data" / "MANIFEST.csv", "valid")
    assert len(heads) == 3
    for head in heads:
        response = head.response(90.0)
        assert 0.5 < time_difference_samples(response) / 16 < 0.85
        assert 8 < level_difference_db(response) < 20
