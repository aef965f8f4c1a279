"""How Litestar reads requests here: bodies strictly, and who asks is known already."""

from typing import Any, Generic, TypeVar, cast

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.dto import MsgspecDTO
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition
from msgspec import Struct

from .access import Access
from .addresses import from_segment
from .problems import Malformed, NoSuchAddress
from .service import Service

T = TypeVar("T", bound=Struct)


class ApiRequest(Request[Any, Any, State]):
    """A request that the gate let in."""

    @property
    def access(self) -> Access:
        """The part of the tree that its token opens."""
        return cast(Access, self.scope["state"]["access"])

    @property
    def service(self) -> Service:
        """The server."""
        return cast(Service, self.app.state.service)

    def agent_path(self, segment: str) -> str:
        """The agent that the address names, within reach. Whether there is one is not known."""
        return self.access.agent(given(segment))


def given(segment: str) -> str:
    """A path or an id in the address, as it was given."""
    path = from_segment(segment)
    if path is None:
        raise NoSuchAddress("nothing has this address; it may have a slash too many")
    return path


def whole_number(text: str, most: int) -> int | None:
    """A number in a header, of which Python is not to read more digits than there can be."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)):
        return None
    number = int(text)
    return number if number <= most else None


class Body(MsgspecDTO[T], Generic[T]):
    """A JSON body, read strictly: nothing unknown, no text for a number. Without one, all defaults."""

    def decode_bytes(self, value: bytes) -> Any:
        """The body as its struct; `Malformed` says where it is not."""
        struct = cast("type[Struct]", self.model_type)
        try:
            return msgspec.json.decode(value or b"{}", type=struct)
        except msgspec.ValidationError as error:
            where = "" if value else "there is no body: "
            raise Malformed(f"the body cannot be taken: {where}{error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(f"the body is no JSON: {error}") from error
        except RecursionError as error:
            raise Malformed("the body is nested too deeply") from error

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,  # noqa: ARG003
        handler_id: str,  # noqa: ARG003
        schema_creator: Any,
    ) -> Reference | Schema:
        """The struct's own schema."""
        found = schema_creator.for_field_definition(FieldDefinition.from_annotation(cls.model_type))
        return cast("Reference | Schema", found)
