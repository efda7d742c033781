"""What `docs/write.py` puts between the markers of the documents: from the code, from the records, and the pictures."""
