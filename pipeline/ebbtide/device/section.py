"""What all documents about devices are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1, max_length=400)]
ProfileName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]


class Section(BaseModel):
    """What all parts share: no unknown key, no coercion, no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
