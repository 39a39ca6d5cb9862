def plot(result):
    return []
