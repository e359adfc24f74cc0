from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def item(request):
    return JSONResponse({"id": request.path_params["id"], "name": "a thing", "tags": ["one", "two"]})


app = Starlette(routes=[Route("/items/{id:int}", item)])
