module tollgate.invalid/demo-app

go 1.25.0
