"""What the demonstration's folder is made of. Python files carry `.txt` behind their name: here they are material."""
