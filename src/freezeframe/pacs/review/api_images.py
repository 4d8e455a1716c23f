"""Pixels and heat maps."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Response
from fastapi.responses import FileResponse
from sqlalchemy import select

from freezeframe.imaging.image import UnreadableImage
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.review.access import Access
from freezeframe.pacs.review.decoder import Decoder, Frame
from freezeframe.pacs.security import audit
from freezeframe.pacs.security.logins import Account
from freezeframe.pacs.tables import Image, Result, Study
from freezeframe.pacs.uids import InvalidUidError, checked

Identifier = Annotated[int, Path(ge=1, lt=2**31)]


def router(
    database: Database, configuration: NodeConfiguration, access: Access, decoder: Decoder
) -> APIRouter:
    """Make the routes of images."""
    routes = APIRouter()
    folder = configuration.folder

    def opened(uid: str, account: Account) -> Image:
        with database.reading() as session:
            query = select(Image, Study.study_uid).join(Study, Study.id == Image.study_id)
            found = session.execute(query.where(Image.sop_instance_uid == _uid(uid))).first()
        if found is None:
            raise HTTPException(404, "There is no such image.")
        image, study_uid = found
        if image.deleted_at is not None or not (folder / image.path).is_file():
            raise HTTPException(410, "This image was deleted, as the node's retention says.")
        access.note(account, audit.IMAGE_OPENED, study_uid, image.sop_instance_uid)
        return image

    def decoded(image: Image, number: int) -> Frame:
        try:
            return decoder.frame(folder / image.path, number)
        except UnreadableImage as error:
            # What the decoder says may hold values of the file.
            raise HTTPException(422, "This frame can't be decoded.") from error

    @routes.get("/api/images/{sop_instance_uid}")
    def image(sop_instance_uid: str, account: Annotated[Account, Depends(access.viewer)]) -> dict[str, Any]:
        found = opened(sop_instance_uid, account)
        frame = decoded(found, 0)
        description = decoder.describe(folder / found.path)
        # The first window of the file was applied by the decoder, over the whole range of the type.
        values = 2**frame.bits
        return {
            "rows": frame.rows,
            "columns": frame.columns,
            "frames": description.frames,
            "bits": frame.bits,
            "channels": frame.channels,
            "window_center": values / 2,
            "window_width": values,
            "pixel_spacing": description.pixel_spacing,
        }

    @routes.get("/api/images/{sop_instance_uid}/frames/{number}")
    def frame(
        sop_instance_uid: str, number: int, account: Annotated[Account, Depends(access.viewer)]
    ) -> Response:
        if not 0 <= number < 100_000:
            raise HTTPException(404, "There is no such frame.")
        content = decoded(opened(sop_instance_uid, account), number).content
        return Response(content, media_type="application/octet-stream")

    @routes.get("/api/results/{result_id}/heat-maps/{sop_instance_uid}/{number}")
    def heat_map(
        result_id: Identifier,
        sop_instance_uid: str,
        number: int,
        account: Annotated[Account, Depends(access.viewer)],
    ) -> Response:
        uid = _uid(sop_instance_uid)
        with database.reading() as session:
            query = select(Result.reading, Study.study_uid).join(Study, Study.id == Result.study_id)
            found = session.execute(query.where(Result.id == result_id)).first()
        images = found.reading["images"] if found is not None else []
        paths = [
            entry["heat_map"]
            for entry in images
            if entry["sop_instance_uid"] == uid and entry["frame"] == number and entry["heat_map"]
        ]
        path = (folder / paths[0]).resolve() if paths else None
        if found is None or path is None or not path.is_relative_to(folder.resolve()) or not path.is_file():
            raise HTTPException(404, "There is no such heat map.")
        access.note(account, audit.HEAT_MAP_OPENED, found.study_uid, uid)
        return FileResponse(path, media_type="image/png")

    return routes


def _uid(text: str) -> str:
    try:
        return checked(text)
    except InvalidUidError as error:
        raise HTTPException(404, "There is no such image.") from error
