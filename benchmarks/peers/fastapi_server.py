"""A plain FastAPI app with the same model: `python fastapi_server.py MODEL.pkl PORT WORKERS`."""

import pickle
import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, Request

with open(sys.argv[1], "rb") as file:
    model = pickle.load(file)
app = FastAPI()


@app.post("/predict")
async def predict(request: Request):
    body = await request.json()
    return {"predictions": model.predict(np.array([body["row"]])).tolist()}


if __name__ == "__main__":
    workers = int(sys.argv[3])
    if workers == 1:
        uvicorn.run(app, port=int(sys.argv[2]), access_log=False, log_level="error")
    else:
        import multiprocessing
        import socket

        listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=2048)

        def serve():
            uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="error")).run(sockets=[listener])

        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=serve) for _ in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
