import numpy as np
from sklearn.neural_network import MLPClassifier


def trained(record):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((200, 12)).astype(np.float32)
    network = MLPClassifier((16,), max_iter=300, random_state=0).fit(x, (x[:, 0] > 0).astype(int))
    x = rng.standard_normal((9, 12)).astype(np.float32)
    np.savez(record, x=x, y=network.predict_proba(x))
    return network
