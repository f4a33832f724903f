#!/usr/bin/env python3
"""Pictures, and what Pillow and transformers' image and video processors make of them: writes crates/picture/tests/data.

Run with Pillow 13.0.0, torch 2.15.0, torchvision and transformers 5.23.0 (the packages of PyPI):

    python3 tools/make_pictures.py
    python3 tools/make_pictures.py fixtures FOLDER

`files/` has a small file of each kind and mode, as Pillow writes it (some are changed afterwards), beside the RGB that
Pillow reads from it (`NAME.png` in `expected/`). `processors.json` has, for drawn pictures, the grid of each processor, the
SHA-256 of the levels of its patches before they are normalised, and that of its rows as float32. `sampling.json` has the
frames that the video processors choose. `fixtures.json` and `fixture.png` are the `preprocess` tensors of the fixtures of a
folder.
"""

import hashlib
import io
import json
import pathlib
import struct
import sys

import numpy as np
from PIL import Image, ImageOps

DATA = pathlib.Path(__file__).parent.parent / "crates/picture/tests/data"


def draw(width, height, seed):
    """A gradient with edges, and noise in some squares; crates/picture/tests/support has the same."""
    x = np.arange(width, dtype=np.uint32)[None, :, None]
    y = np.arange(height, dtype=np.uint32)[:, None, None]
    c = np.arange(3, dtype=np.uint32)[None, None, :]
    smooth = x * (3 + c) + y * (5 - c) + seed * 29
    edges = ((x // 9 + y // 7 + c) % 2) * 90
    mixed = (x * 73856093) ^ (y * 19349663) ^ ((c + seed) * 83492791)
    noise = ((mixed >> 7) ^ (mixed >> 16)) & 255
    is_noise = (x // 16 + 2 * (y // 16) + seed) % 5 == 0
    return np.where(is_noise, noise, (smooth // 2 + edges) & 255).astype(np.uint8)


def file_bytes(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def soft(width, height, seed):
    """Colours that change slowly, as a photograph's do."""
    x = np.arange(width)[None, :, None]
    y = np.arange(height)[:, None, None]
    c = np.arange(3)[None, None, :]
    return (127.5 + 127.5 * np.sin(x / (5 + c) + seed) * np.cos(y / (7 - c))).astype(np.uint8)


def files():
    rgb = Image.fromarray(draw(37, 23, 1))
    photo = Image.fromarray(soft(45, 35, 1))
    grey = rgb.convert("L")
    alpha = Image.fromarray(draw(37, 23, 2)[:, :, 0])
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    grey_alpha = Image.merge("LA", (grey, alpha))
    palette = rgb.quantize(64)
    cmyk = Image.merge("CMYK", [Image.fromarray(soft(45, 35, s)[:, :, s % 3]) for s in range(4)])
    deep = (draw(37, 23, 3)[:, :, 0].astype(np.uint16) * 3 - 40).clip(0, 700).astype(np.uint16)
    frames = [Image.fromarray(draw(30, 20, s)).quantize(32) for s in range(6)]

    yield "rgb.png", file_bytes(rgb, "PNG")
    yield "interlaced.png", interlaced(np.asarray(rgb))
    yield "grey.png", file_bytes(grey, "PNG")
    yield "grey_alpha.png", file_bytes(grey_alpha, "PNG")
    yield "rgba.png", file_bytes(rgba, "PNG")
    yield "palette.png", file_bytes(palette, "PNG")
    yield "palette_transparent.png", file_bytes(palette, "PNG", transparency=bytes(range(3, 256, 4)))
    yield "palette_16.png", file_bytes(rgb.quantize(16), "PNG", bits=4)
    yield "palette_4.png", file_bytes(rgb.quantize(4), "PNG", bits=2)
    yield "bilevel.png", file_bytes(grey.convert("1"), "PNG")
    yield "grey_4_bits.png", png(np.asarray(grey) >> 4, 4, 0)
    yield "grey_2_bits.png", png(np.asarray(grey) >> 6, 2, 0)
    yield "grey_16_bits.png", file_bytes(Image.fromarray(deep), "PNG")
    yield "grey_alpha_16_bits.png", png(wide(np.asarray(grey_alpha)), 16, 4)
    yield "rgb_16_bits.png", png(wide(np.asarray(rgb)), 16, 2)
    yield "rgba_16_bits.png", png(wide(np.asarray(rgba)), 16, 6)
    yield "rgb_transparent.png", file_bytes(rgb, "PNG", transparency=tuple(np.asarray(rgb)[0, 0].tolist()))
    yield "turned.png", file_bytes(rgb, "PNG", exif=exif(6))
    animated = [frame.convert("RGB") for frame in frames[:3]]
    yield "animated.png", file_bytes(animated[0], "PNG", save_all=True, append_images=animated[1:])

    for name, sampling in [("444", 0), ("422", 1), ("420", 2)]:
        yield f"{name}.jpg", file_bytes(photo, "JPEG", quality=92, subsampling=sampling)
    yield "edges_420.jpg", file_bytes(rgb, "JPEG", quality=75)
    yield "edges_444.jpg", file_bytes(rgb, "JPEG", quality=75, subsampling=0)
    yield "progressive.jpg", file_bytes(photo, "JPEG", quality=85, progressive=True)
    yield "restarts.jpg", file_bytes(photo, "JPEG", quality=85, restart_marker_blocks=2)
    yield "grey.jpg", file_bytes(photo.convert("L"), "JPEG", quality=90)
    yield "cmyk.jpg", file_bytes(cmyk, "JPEG", quality=92, subsampling=0)
    yield "ycck.jpg", ycck(file_bytes(cmyk, "JPEG", quality=92, subsampling=0))
    yield "rgb.jpg", file_bytes(photo, "JPEG", quality=92, keep_rgb=True)
    for orientation in range(2, 9):
        small = Image.fromarray(soft(21, 13, 4))
        yield f"turned_{orientation}.jpg", file_bytes(small, "JPEG", quality=95, subsampling=0, exif=exif(orientation))
    yield "tiny.jpg", file_bytes(Image.fromarray(soft(1, 1, 3)), "JPEG", quality=90)

    yield "palette.gif", file_bytes(palette, "GIF")
    yield "grey.gif", file_bytes(grey, "GIF")
    yield "transparent.gif", file_bytes(palette, "GIF", transparency=7)
    yield "animated.gif", file_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50, loop=0)
    yield "partial.gif", partial_gif(None)
    yield "partial_transparent.gif", partial_gif(2)
    yield "interlaced.gif", file_bytes(palette, "GIF", interlace=True)

    yield "lossless.webp", file_bytes(rgb, "WEBP", lossless=True)
    yield "lossless_alpha.webp", file_bytes(rgba, "WEBP", lossless=True, exact=True)
    yield "lossy.webp", file_bytes(photo, "WEBP", quality=90)
    yield "lossy_alpha.webp", file_bytes(soft_alpha(photo), "WEBP", quality=90)
    yield "animated.webp", file_bytes(animated[0], "WEBP", save_all=True, append_images=animated[1:], duration=50, lossless=True)
    yield "turned.webp", file_bytes(rgb, "WEBP", lossless=True, exif=exif(8))

    yield "raw.tif", file_bytes(rgb, "TIFF")
    yield "lzw.tif", file_bytes(rgb, "TIFF", compression="tiff_lzw")
    yield "deflate.tif", file_bytes(rgb, "TIFF", compression="tiff_adobe_deflate")
    yield "packbits.tif", file_bytes(grey, "TIFF", compression="packbits")
    yield "rgba.tif", file_bytes(rgba, "TIFF")
    yield "grey_16_bits.tif", file_bytes(Image.fromarray(deep), "TIFF")
    yield "bilevel.tif", file_bytes(grey.convert("1"), "TIFF")
    yield "fax.tif", file_bytes(grey.convert("1"), "TIFF", compression="group4")
    yield "cmyk.tif", file_bytes(cmyk, "TIFF", compression="tiff_lzw")
    yield "turned.tif", file_bytes(rgb, "TIFF", tiffinfo={274: 3})

    yield "rgb.bmp", file_bytes(rgb, "BMP")
    yield "palette.bmp", file_bytes(palette, "BMP")
    yield "bilevel.bmp", file_bytes(grey.convert("1"), "BMP")
    yield "rgba.bmp", file_bytes(rgba, "BMP")
    yield "555.bmp", bmp_555(np.asarray(rgb))


def partial_gif(transparent):
    """One pixel of a frame within 4 x 3."""
    palette = bytes([10, 20, 30, 40, 50, 60, 70, 80, 90, 250, 0, 250])
    control = bytes([0x21, 0xF9, 4, transparent is not None, 5, 0, transparent or 0, 0])
    frame = bytes([0x2C, 1, 0, 1, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3B])
    return b"GIF89a" + struct.pack("<HHBBB", 4, 3, 0x81, 1, 0) + palette + control + frame


def wide(values):
    """Two bytes a value; the lower is another than the upper."""
    return values.astype(np.uint16) * 256 + (values.astype(np.uint16) * 7 + 200) % 256


def soft_alpha(image):
    image = image.copy()
    image.putalpha(Image.fromarray(np.clip(soft(*image.size, 6)[:, :, 0].astype(int) + 20, 20, 255).astype(np.uint8)))
    return image


def chunk(name, data):
    import zlib

    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(values, bits, colour, chunks=(), interlace=0, lines=None):
    """A PNG that Pillow does not write."""
    import zlib

    height, width = values.shape[:2]
    if lines is None:
        lines = [packed(row.reshape(-1), bits) for row in values]
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    body = b"".join(b"\0" + line for line in lines)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(body, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def packed(row, bits):
    if bits == 16:
        return row.astype(">u2").tobytes()
    if bits == 8:
        return row.astype(np.uint8).tobytes()
    flat = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits:].reshape(-1)
    return np.packbits(flat).tobytes()


def interlaced(values):
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    lines = [packed(row.reshape(-1), 8) for x, y, dx, dy in passes for row in values[y::dy, x::dx]]
    return png(values, 8, 2, interlace=1, lines=lines)


def ycck(jpeg):
    """The same data under the other of Adobe's two transforms."""
    at = jpeg.index(b"Adobe")
    return jpeg[: at + 11] + b"\x02" + jpeg[at + 12 :]


def bmp_555(values):
    height, width = values.shape[:2]
    deep = values.astype(np.uint16) >> 3
    pixels = (deep[:, :, 0] << 10 | deep[:, :, 1] << 5 | deep[:, :, 2]).astype("<u2")[::-1]
    rows = b"".join(row.tobytes() + b"\0" * (-2 * width % 4) for row in pixels)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 16, 0, len(rows), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows


def write_files():
    for folder in ["files", "expected"]:
        (DATA / folder).mkdir(parents=True, exist_ok=True)
        for old in (DATA / folder).iterdir():
            old.unlink()
    for name, data in files():
        (DATA / "files" / name).write_bytes(data)
        # As transformers' load_image does.
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        Image.fromarray(np.asarray(image)).save(DATA / "expected" / f"{name}.png", optimize=True)


SIZES = [
    (1, 1), (1, 7), (5, 1), (13, 28), (27, 29), (28, 28), (28, 5600), (4000, 20), (29, 401), (33, 77),
    (56, 56), (61, 93), (63, 42), (70, 350), (60, 90), (20, 100), (90, 60), (100, 150), (112, 112), (113, 111),
    (127, 255), (140, 84), (154, 98), (182, 210), (199, 3), (224, 224), (240, 135), (255, 256), (301, 47), (320, 240),
    (333, 500), (350, 70), (400, 41), (448, 336), (511, 129), (640, 480), (672, 672), (701, 333), (97, 1200), (1120, 300),
]


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:24]


def processors():
    """The processors by name, each with its settings for small results: (name, rows of a picture -> grid, values)."""
    from transformers.models.glm4v.image_processing_glm4v import Glm4vImageProcessor
    from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
    from transformers.models.glm46v.image_processing_glm46v import Glm46VImageProcessor
    from transformers.models.glm5_next.image_processing_glm5_next import Glm5NextImageProcessor
    from transformers.models.glm5_next.image_processing_pil_glm5_next import Glm5NextImageProcessorPil
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

    small = {"size": {"shortest_edge": 12544, "longest_edge": 200_000}}
    few = {"min_image_tokens": 16, "max_image_tokens": 150}
    edge = {"size": {"height": 224, "width": 224}, "max_image_tiles": 1, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    # GLM-Edge-V's file names the bicubic filter; its class's own is bilinear.
    cubic = edge | {"resample": 3}

    def rows(processor):
        def of(pixels, **raw):
            out = processor(images=[Image.fromarray(pixels)], return_tensors="np", **raw)
            return out["image_grid_thw"][0].tolist(), out["pixel_values"]
        return of

    def tile(processor):
        def of(pixels, **raw):
            out = processor(images=[Image.fromarray(pixels)], return_tensors="np", **raw)
            return in_patches(out["pixel_values"].reshape(3, 224, 224))
        return of

    yield "glm4v", {"image_processor_type": "Glm4vImageProcessor"} | small, rows(Glm4vImageProcessor(**small))
    yield "glm4v-pillow", {"image_processor_type": "Glm4vImageProcessor"} | small, rows(Glm4vImageProcessorPil(**small))
    yield "glm46v", {"image_processor_type": "Glm46VImageProcessor"}, rows(Glm46VImageProcessor())
    yield "glm5next", {"image_processor_type": "Glm5NextImageProcessor"} | few, rows(Glm5NextImageProcessor(**few))
    yield "glm5next-pillow", {"image_processor_type": "Glm5NextImageProcessor"} | few, rows(Glm5NextImageProcessorPil(**few))
    yield "mllama", {"image_processor_type": "MllamaImageProcessor"} | edge, tile(MllamaImageProcessorPil(**edge))
    yield "fitted", {"image_processor_type": "MllamaImageProcessor"} | cubic, tile(MllamaImageProcessorPil(**cubic))
    yield "stretched", None, stretched


def in_patches(values):
    channels, height, width = values.shape
    rows = values.reshape(channels, height // 14, 14, width // 14, 14).transpose(1, 3, 0, 2, 4)
    return [1, height // 14, width // 14], rows.reshape(-1, channels * 14 * 14)


def stretched(pixels, do_rescale=True, do_normalize=True):
    """The transform of GLM-4V-9B's tokenizer, with its 1,120 pixels made 224."""
    import torch
    from torchvision import transforms

    size = transforms.Resize((224, 224), interpolation=transforms.InterpolationMode.BICUBIC)
    image = size(Image.fromarray(pixels))
    if not do_rescale:
        return in_patches(np.asarray(image).transpose(2, 0, 1).astype(np.float32))
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    values = transforms.Normalize(mean, std)(transforms.ToTensor()(image))
    assert values.dtype == torch.float32
    return in_patches(values.numpy())


def write_processors():
    found = []
    for name, settings, rows in processors():
        pictures = []
        for seed, (width, height) in enumerate(SIZES):
            pixels = draw(width, height, seed)
            try:
                grid, levels = rows(pixels, do_rescale=False, do_normalize=False)
                _, values = rows(pixels)
            except ValueError as error:
                pictures.append([width, height, seed, str(error)[:60]])
                continue
            assert (levels == levels.round()).all() and values.dtype == np.float32
            pictures.append([width, height, seed, grid, digest(levels.astype(np.uint8)), digest(values)])
        found.append({"name": name, "settings": settings, "pictures": pictures})
    write_json("processors.json", {"runs": found, "videos": videos()})


def videos():
    from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor
    from transformers.models.glm46v.video_processing_glm46v import Glm46VVideoProcessor
    from transformers.models.glm5_next.video_processing_glm5_next import Glm5NextVideoProcessor

    found = []
    for kind in [Glm4vVideoProcessor, Glm46VVideoProcessor, Glm5NextVideoProcessor]:
        for count, width, height in [(2, 45, 61), (6, 90, 70), (4, 200, 30)]:
            frames = np.stack([draw(width, height, seed) for seed in range(count)])
            processor = kind()
            out = processor(videos=[frames], do_sample_frames=False, return_tensors="np", input_data_format="channels_last")
            values = out["pixel_values_videos"]
            found.append([kind.__name__, count, width, height, out["video_grid_thw"][0].tolist(), digest(values)])
    return found


def write_sampling():
    from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor
    from transformers.models.glm46v.video_processing_glm46v import Glm46VVideoProcessor
    from transformers.models.glm5_next.video_processing_glm5_next import Glm5NextVideoProcessor
    from transformers.video_utils import VideoMetadata

    found = []
    for kind in [Glm4vVideoProcessor, Glm46VVideoProcessor, Glm5NextVideoProcessor]:
        cases = [(75, 30), (1, 30), (2, 1), (3, 24), (9, 10), (10, 10), (31, 30), (50, 7), (61, 2), (100, 3), (299, 29.97),
                 (48, 24), (250, 25), (900, 30), (901, 30), (1000, 12.5), (6000, 20), (7300, 24), (40, 0.5), (9000, 25)]
        for count, rate in cases:
            metadata = VideoMetadata(total_num_frames=count, fps=rate, duration=count / rate)
            try:
                frames = kind().sample_frames(metadata=metadata).tolist()
            except Exception as error:
                frames = [str(error)[:40]]
            weighed = sum(i * frame for i, frame in enumerate(frames, 1)) if frames and type(frames[0]) is int else 0
            found.append([kind.__name__, count, rate, len(frames), weighed, frames[:24]])
    write_json("sampling.json", found)


def write_fixtures(folder):
    from safetensors.numpy import load_file

    found = []
    for name in ["glm-4.1v-9b", "glm-4.5v", "glm-4.6v-flash", "glm-ocr"]:
        tensors = load_file(folder / name / "expected.safetensors")
        rgb, values = tensors["preprocess.rgb"], tensors["preprocess.pixel_values"]
        Image.fromarray(rgb).save(DATA / "fixture.png", optimize=True)
        settings = json.loads((folder / name / "preprocessor_config.json").read_text())
        found.append([name, tensors["preprocess.grid_thw"].reshape(-1).tolist(), digest(values), settings])
    write_json("fixtures.json", found)


def write_json(name, value):
    text = json.dumps(value, separators=(",", ":")).replace("],[", "],\n[").replace('},{"name', '},\n{"name')
    (DATA / name).write_text(text + "\n")


if __name__ == "__main__":
    steps = {"files": write_files, "processors": write_processors, "sampling": write_sampling}
    if sys.argv[1:2] == ["fixtures"]:
        write_fixtures(pathlib.Path(sys.argv[2]))
    else:
        for step in sys.argv[1:] or steps:
            steps[step]()
