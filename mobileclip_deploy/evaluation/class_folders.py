"""A folder of class folders with images, as ImageNet's validation set is usually kept."""

from pathlib import Path

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.class_names import ClassNames, names_of_folders, refuse_numbers
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.network.model.image_files import image_files, walk_images
from mobileclip_deploy.pictures.text_files import BadRows


def class_folders(folder: Path) -> list[Path]:
    """Returns the folders in a folder, sorted, without hidden ones.

    Raises:
        InvalidInput: there are none.
    """
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        if next(walk_images(folder), None) is not None:
            raise InvalidInput(
                f"{folder} holds pictures without labels: put them in a folder per class, or give a .csv "
                "(docs/evaluation.md)"
            )
        raise InvalidInput(
            f"{folder} holds neither a dataset.json, nor shards ({{split}}/0.tar), nor class folders with images"
        )
    return folders


def read_class_folders(folder: Path, class_names: Path | None, bad: BadRows) -> Dataset:
    """Reads a dataset of class folders; images may lie in subfolders of these.

    The folder's name, with blanks for underscores, is the class unless a file of class names says otherwise. A folder
    without images is a bad row; if it is skipped, its class is not a candidate.

    Raises:
        InvalidInput: no class folders, or a bad one that is not to be skipped.
    """
    all_folders = class_folders(folder)
    files = {entry: image_files(entry) for entry in all_folders}
    for entry in all_folders:
        if not files[entry]:
            bad.add(f"the class folder {entry} holds no images")
    folders = [entry for entry in all_folders if files[entry]]
    if not folders:
        raise InvalidInput(f"none of the {len(all_folders)} class folders in {folder} holds an image")
    names = [entry.name for entry in folders]
    if class_names is None:
        named = [(str(entry), entry.name.replace("_", " ")) for entry in folders]
        classes = ClassNames.of(str(folder), named, bad)
        refuse_numbers(str(folder), names)
    else:
        classes = names_of_folders(class_names, names, bad)
    images: list[Path] = []
    labels: list[int] = []
    for position, entry in zip(classes.positions, folders, strict=True):
        for file in files[entry]:
            if not file.is_file():
                bad.add(f"{file}: {'not a regular file' if file.exists() else 'a link to a file that is not there'}")
                continue
            images.append(file)
            labels.append(position)
    return Dataset(
        name=folder.resolve().name,
        images=tuple(images),
        rows=tuple(str(file) for file in images),
        labels=tuple(labels),
        classes=classes.names,
        skipped=tuple(bad.found),
    )
