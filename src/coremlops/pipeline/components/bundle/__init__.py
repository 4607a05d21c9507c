"""`uses: bundle`: puts the proven model into an app's folder, with a version file and a Swift accessor.

    bundle: {uses: bundle, inputs: {model: convert, report: verify}, params: {app: app/Faces}}

An effect: it is reconciled by digest. `<Name>.mlpackage`, `<Name>.version.json` and `<Name>Model.swift` are
ours; everything else in the folder is the app's and stays untouched.
"""
