"""What makes a course of the notebooks: exercises that check, student versions, a key, sources to show.

    from infoclip_lite.course.exercises import check      # what every notebook's exercises call
    from infoclip_lite.course.source import show_source   # where a notebook only calls a function
    course.notebooks    execute, stamp and check them     (infoclip-lite notebooks run, check)
    course.coursework   student versions and a key        (infoclip-lite notebooks student)
    course.slides       a chapter as slides                   (infoclip-lite notebooks slides)
    studies.capstone    a recipe of a reader's own        (infoclip-lite notebooks judge)

Nothing is imported here: an exercise should not wait for Jupyter, nor a student version for torch.
"""
