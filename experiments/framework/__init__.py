"""What the experiments share: results, discovery, running, storing, the page.  No claim lives here."""
