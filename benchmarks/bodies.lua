-- Posts the lines of a file in turn, each as a JSON body: wrk … -s bodies.lua URL -- FILE
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

function init(arguments)
  local bodies, at = {}, 0
  for line in io.lines(arguments[1]) do
    bodies[#bodies + 1] = line
  end
  wrk.body = bodies[1]
  if #bodies > 1 then -- else wrk makes the request once, which leaves more of the machine to the router
    request = function()
      at = at % #bodies + 1
      return wrk.format(nil, nil, nil, bodies[at])
    end
  end
end
