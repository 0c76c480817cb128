"""What travels: the messages of the log, the inputs and the views. The classes are made by the build."""
