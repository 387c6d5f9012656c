"""Files that outlive a run: atomic writes, journals of finished work, caption files."""
