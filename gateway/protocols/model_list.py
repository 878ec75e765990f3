"""Stand-in until the real one lands."""
from gateway.core.model import Model, Wire
import msgspec
def list_models(models: list[Model], wire: Wire, query: dict[str, str]) -> bytes:
    return msgspec.json.encode({"object": "list", "data": [{"id": m.name, "object": "model", "created": m.created, "owned_by": "gateway"} for m in models]})
def show_model(model: Model, wire: Wire, name: str) -> bytes:
    return msgspec.json.encode({"id": name, "object": "model", "created": model.created, "owned_by": "gateway"})
