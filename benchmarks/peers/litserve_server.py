"""LitServe with the same model: `python litserve_server.py MODEL.pkl PORT WORKERS BATCH`."""

import pickle
import sys

import litserve as ls
import numpy as np

PATH, PORT, WORKERS, BATCH = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


class Api(ls.LitAPI):
    def setup(self, device):
        with open(PATH, "rb") as file:
            self.model = pickle.load(file)

    def decode_request(self, request):
        return np.array(request["row"], dtype=float)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        return self.model.predict(x if BATCH > 1 else x[None])

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"predictions": [float(output if BATCH > 1 else output[0])]}


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=0.002 if BATCH > 1 else 0.0)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True, timeout=60)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="error")
